// Draws points into image data: 100,000 points take a few milliseconds without WebGL, of which a page has at most 16
// contexts and some machines none. Beside the colors it stores which point has its center at each pixel.

const HIDDEN = 0;
const DIM = 1;
const PLAIN = 2;
const EMPHASIZED = 3;
const DIM_ALPHA = 0.22;
const NO_POINT = -1;
// With more points, antialiased edges cost time without a visible difference.
const MAX_SOFT_POINTS = 20000;
// Coprime to the number of points: drawn in row order, the last category would cover all others.
const STRIDE = 2654435761;

/**
 * Return a disc as offsets into an image of this width, with the coverage of each pixel (0 to 255), without those
 * of a hole in its middle.
 * @param {number} radius
 * @param {number} width
 * @returns {Disc}
 */
function disc(radius, width, { alpha = 1, soft = true, hole = 0 } = {}) {
  const reach = Math.ceil(radius);
  const offsets = [];
  const coverage = [];
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const distance = Math.hypot(x, y);
      const outside = hole ? Math.min(1, Math.max(0, distance - hole + 0.5)) : 1;
      const share = Math.min(outside, Math.max(0, radius + 0.5 - distance));
      const covered = soft ? share : Math.round(share);
      if (covered > 0.05) offsets.push(y * width + x), coverage.push(Math.round(255 * covered * alpha));
    }
  }
  return { reach, offsets: Int32Array.from(offsets), coverage: Uint8Array.from(coverage) };
}

/**
 * Overwrite pixels: dimmed points are drawn first, and with many points no edge is antialiased.
 * @param {Uint32Array} pixels
 * @param {number} at
 * @param {Disc} disc
 * @param {number} color
 */
function replacePixels(pixels, at, { offsets, coverage }, color) {
  for (let s = 0; s < offsets.length; s++) pixels[at + offsets[s]] = (coverage[s] << 24) | color;
}

/**
 * @param {Uint32Array} pixels
 * @param {number} at
 * @param {Disc} disc
 * @param {number} color
 */
function blendPixels(pixels, at, { offsets, coverage }, color) {
  for (let s = 0; s < offsets.length; s++) {
    const place = at + offsets[s];
    const over = coverage[s];
    const below = pixels[place];
    if (over === 255 || below === 0) {
      pixels[place] = (over << 24) | color;
    } else {
      const rest = 255 - over;
      const red = ((below & 255) * rest + (color & 255) * over) / 255;
      const green = (((below >> 8) & 255) * rest + ((color >> 8) & 255) * over) / 255;
      const blue = (((below >> 16) & 255) * rest + ((color >> 16) & 255) * over) / 255;
      pixels[place] = (Math.max(over, below >>> 24) << 24) | (blue << 16) | (green << 8) | red;
    }
  }
}

/** @param {HTMLCanvasElement} canvas */
function context2d(canvas) {
  const context = canvas.getContext("2d");
  if (!context) throw new Error("the browser does not support a 2D canvas");
  return context;
}

class Raster {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = context2d(canvas);
    this.padding = 40;
    this.width = 0;
    this.height = 0;
    /** @type {ImageData | null} Null until the first `resize`. */
    this.image = null;
    this.pixels = new Uint32Array(0);
    this.pointAtPixel = new Int32Array(0);
  }

  /**
   * @param {number} width
   * @param {number} height
   */
  resize(width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.width = width + 2 * this.padding;
    this.height = height + 2 * this.padding;
    this.image = new ImageData(this.width, this.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.pointAtPixel = new Int32Array(this.pixels.length);
  }

  /** @param {Scene & {view: View, radius: number}} scene Its levels are the four constants above. */
  draw({ points, codes, levels, colors, hollow, view, radius }) {
    if (!this.image) return;
    this.pixels.fill(0);
    this.pointAtPixel.fill(NO_POINT);
    const count = codes.length;
    const first = STRIDE % Math.max(count, 1);
    const soft = count <= MAX_SOFT_POINTS;
    const marks = {
      [DIM]: disc(radius, this.width, { alpha: DIM_ALPHA, soft }),
      [PLAIN]: disc(radius, this.width, { soft }),
      [EMPHASIZED]: disc(radius * 1.5 + 1, this.width),
    };
    const ring = disc(radius * 1.5 + 2.5, this.width);
    // A point without a value is a ring, however small: never like a value that is gray.
    const open = Math.max(radius, 2);
    const openMarks = {
      [DIM]: disc(open, this.width, { alpha: DIM_ALPHA, soft, hole: open - 1 }),
      [PLAIN]: disc(open, this.width, { soft, hole: open - 1 }),
      [EMPHASIZED]: disc(radius * 1.5 + 1, this.width, { hole: radius * 1.5 - 0.5 }),
    };
    for (const level of /** @type {const} */ ([DIM, PLAIN, EMPHASIZED])) {
      if (!levels.includes(level)) continue;
      const edge = Math.min(this.padding, (level === EMPHASIZED ? ring : openMarks[level]).reach);
      for (let step = 0, i = 0; step < count; step++, i = (i + first) % count) {
        if (levels[i] !== level) continue;
        const x = Math.round(view.x + view.scale * points[2 * i]) + this.padding;
        const y = Math.round(view.y + view.scale * points[2 * i + 1]) + this.padding;
        if (x < edge || y < edge || x >= this.width - edge || y >= this.height - edge) continue;
        const at = y * this.width + x;
        const mark = (codes[i] === hollow ? openMarks : marks)[level];
        if (level === EMPHASIZED) blendPixels(this.pixels, at, ring, 0x808080);
        if (level !== DIM && (soft || level === EMPHASIZED)) blendPixels(this.pixels, at, mark, colors[codes[i]]);
        else replacePixels(this.pixels, at, mark, level === DIM ? 0x808080 : colors[codes[i]]);
        this.pointAtPixel[at] = i;
      }
    }
    this.context.putImageData(this.image, -this.padding, -this.padding);
  }

  /**
   * Return the point whose center is nearest to a pixel, NO_POINT if there is none in reach.
   * @param {number} x
   * @param {number} y
   * @param {number} reach
   * @returns {Point}
   */
  nearestPoint(x, y, reach) {
    let found = NO_POINT;
    let smallest = Infinity;
    for (let dy = -reach; dy <= reach; dy++) {
      for (let dx = -reach; dx <= reach; dx++) {
        const column = Math.round(x) + this.padding + dx;
        const line = Math.round(y) + this.padding + dy;
        if (column < 0 || line < 0 || column >= this.width || line >= this.height) continue;
        const point = this.pointAtPixel[line * this.width + column];
        const distance = dy * dy + dx * dx;
        if (point !== NO_POINT && distance < smallest) [found, smallest] = [point, distance];
      }
    }
    return found;
  }
}

/**
 * Return the points inside a polygon, given in the units of the points; hidden points are left out.
 * @param {Uint16Array} points
 * @param {Uint8Array} levels
 * @param {Pair[]} corners
 */
function pointsInPolygon(points, levels, corners) {
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
