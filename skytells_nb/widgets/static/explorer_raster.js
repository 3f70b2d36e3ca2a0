// Points to pixels. Drawn by hand into image data: 100,000 points take a few milliseconds without WebGL, of which a page
// has 16 contexts at most and some machines none. Beside the colours it keeps whose middle each pixel is.

const HIDDEN = 0;
const DIM = 1;
const PLAIN = 2;
const LIT = 3;
const DIM_ALPHA = 0.22;
const NOTHING = -1;
// Above so many points a soft edge costs more than the eye can tell.
const SOFT_UP_TO = 20000;
// Coprime to every count of points: in the order of the rows the last category would lie on top of all others.
const STRIDE = 2654435761;

/**
 * A disc as offsets into an image of this width, with how much of each pixel it covers (0 to 255).
 * @param {number} radius
 * @param {number} width
 * @returns {Disc}
 */
function disc(radius, width, { alpha = 1, soft = true } = {}) {
  const reach = Math.ceil(radius);
  const offsets = [];
  const covers = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const share = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x, y)));
      const cover = soft ? share : Math.round(share);
      if (cover > 0.05) offsets.push(y * width + x), covers.push(Math.round(255 * cover * alpha));
    }
  }
  return { reach, offsets: Int32Array.from(offsets), covers: Uint8Array.from(covers) };
}

/**
 * Pale points come first, so nothing lies below them that they could change; dense ones have no soft edge.
 * @param {Uint32Array} pixels
 * @param {number} at
 * @param {Disc} disc
 * @param {number} ink
 */
function cover(pixels, at, { offsets, covers }, ink) {
  for (let s = 0; s < offsets.length; s++) pixels[at + offsets[s]] = (covers[s] << 24) | ink;
}

/**
 * @param {Uint32Array} pixels
 * @param {number} at
 * @param {Disc} disc
 * @param {number} ink
 */
function blend(pixels, at, { offsets, covers }, ink) {
  for (let s = 0; s < offsets.length; s++) {
    const place = at + offsets[s];
    const over = covers[s];
    const below = pixels[place];
    if (over === 255 || below === 0) {
      pixels[place] = (over << 24) | ink;
    } else {
      const keep = 255 - over;
      const red = ((below & 255) * keep + (ink & 255) * over) / 255;
      const green = (((below >> 8) & 255) * keep + ((ink >> 8) & 255) * over) / 255;
      const blue = (((below >> 16) & 255) * keep + ((ink >> 16) & 255) * over) / 255;
      pixels[place] = (Math.max(over, below >>> 24) << 24) | (blue << 16) | (green << 8) | red;
    }
  }
}

/** @param {HTMLCanvasElement} canvas */
function context2d(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser has no 2D canvas");
  return context;
}

class Raster {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = context2d(canvas);
    this.pad = 40;
    this.width = 0;
    this.height = 0;
    /** @type {ImageData | null} Null until the first `resize`. */
    this.image = null;
    this.pixels = new Uint32Array(0);
    this.shown = new Int32Array(0);
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.width = width + 2 * this.pad;
    this.height = height + 2 * this.pad;
    this.image = new ImageData(this.width, this.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.shown = new Int32Array(this.pixels.length);
  }

  /** @param {Scene & {view: View, radius: number}} scene Its levels are the four above. */
  draw({ points, codes, levels, inks, view, radius }) {
    if (!this.image) return;
    this.pixels.fill(0);
    this.shown.fill(NOTHING);
    const count = codes.length;
    const first = STRIDE % Math.max(count, 1);
    const soft = count <= SOFT_UP_TO;
    const marks = {
      [DIM]: disc(radius, this.width, { alpha: DIM_ALPHA, soft }),
      [PLAIN]: disc(radius, this.width, { soft }),
      [LIT]: disc(radius * 1.5 + 1, this.width),
    };
    const ring = disc(radius * 1.5 + 2.5, this.width);
    for (const level of /** @type {const} */ ([DIM, PLAIN, LIT])) {
      if (!levels.includes(level)) continue;
      const mark = marks[level];
      const edge = Math.min(this.pad, (level === LIT ? ring : mark).reach);
      for (let step = 0, i = 0; step < count; step++, i = (i + first) % count) {
        if (levels[i] !== level) continue;
        const x = Math.round(view.x + view.scale * points[2 * i]) + this.pad;
        const y = Math.round(view.y + view.scale * points[2 * i + 1]) + this.pad;
        if (x < edge || y < edge || x >= this.width - edge || y >= this.height - edge) continue;
        const at = y * this.width + x;
        if (level === LIT) blend(this.pixels, at, ring, 0x808080);
        if (level !== DIM && (soft || level === LIT)) blend(this.pixels, at, mark, inks[codes[i]]);
        else cover(this.pixels, at, mark, level === DIM ? 0x808080 : inks[codes[i]]);
        this.shown[at] = i;
      }
    }
    this.context.putImageData(this.image, -this.pad, -this.pad);
  }

  /**
   * The point whose middle is nearest to a pixel, NOTHING where there is none within reach.
   * @param {number} x
   * @param {number} y
   * @param {number} reach
   * @returns {Point}
   */
  pointAt(x, y, reach) {
    let found = NOTHING;
    let least = Infinity;
    for (let down = -reach; down <= reach; down++) {
      for (let right = -reach; right <= reach; right++) {
        const column = Math.round(x) + this.pad + right;
        const line = Math.round(y) + this.pad + down;
        if (column < 0 || line < 0 || column >= this.width || line >= this.height) continue;
        const point = this.shown[line * this.width + column];
        const apart = down * down + right * right;
        if (point !== NOTHING && apart < least) [found, least] = [point, apart];
      }
    }
    return found;
  }
}

/**
 * The points that lie within a closed line of corners in the units of the points; hidden ones never do.
 * @param {Uint16Array} points
 * @param {Uint8Array} levels
 * @param {Pair[]} corners
 */
function within(points, levels, corners) {
  /** @type {Point[]} */
  const found = [];
  const xs = corners.map(([x]) => x);
  const ys = corners.map(([, y]) => y);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  for (let i = 0; i < levels.length; i++) {
    const x = points[2 * i];
    const y = points[2 * i + 1];
    if (levels[i] === HIDDEN || x < left || x > right || y < top || y > bottom) continue;
    let inside = false;
    for (let a = 0, b = corners.length - 1; a < corners.length; b = a++) {
      if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
    }
    if (inside) found.push(i);
  }
  return Uint32Array.from(found);
}
