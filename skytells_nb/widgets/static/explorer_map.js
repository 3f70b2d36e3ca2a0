// The map: its view of the points, and how the mouse and the keyboard change it.

const GRID = 65535;
const MARGIN = 14;
const MAX_ZOOM = 400;
// From here on the names of parts of topics are written.
const PARTS_ZOOM = 1.6;
const CLICK_PX = 4;
const HIT_RADIUS_PX = 6;
const PAN_STEP_PX = 60;

/**
 * Return the corners of the shape that is being drawn: for a box, from its first and last point.
 * @param {Pick<Drag, "line" | "shape">} drag
 * @returns {Pair[]}
 */
function dragOutline({ line, shape }) {
  if (!line || shape !== "box") return line ?? [];
  const [left, top] = line[0];
  const [right, bottom] = line[line.length - 1];
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

const LINE_CHARACTERS = 18;
const LINE_HEIGHT = 1.2;
const LABEL_GAP_PX = 3;
/** Steps that a name moves up or down by its height where another one is. */
const LABEL_SHIFTS = [0, -1, 1, -2, 2];

/**
 * Break a name into two lines of similar length.
 * @param {string} name
 */
function twoLines(name) {
  if (name.length <= LINE_CHARACTERS) return [name];
  const spaces = [...name.matchAll(/ /g)].map(({ index }) => index);
  if (!spaces.length) return [name];
  const longer = (/** @type {number} */ at) => Math.max(at, name.length - at - 1);
  const at = spaces.reduce((best, space) => (longer(space) < longer(best) ? space : best));
  return [name.slice(0, at), name.slice(at + 1)];
}

/**
 * Place names near where they belong: inside of the map and none over another. The first ones choose first; one without
 * space is left out, unless it is kept.
 * @param {MapLabel[]} labels
 * @param {Pair} size
 * @param {(line: string, font: number) => number} measure
 * @returns {PlacedLabel[]}
 */
function placeLabels(labels, [width, height], measure) {
  /** @type {[left: number, top: number, right: number, bottom: number][]} */
  const taken = [];
  /** @type {PlacedLabel[]} */
  const placed = [];
  for (const { name, at, font, kept } of labels) {
    if (at[0] < 0 || at[1] < 0 || at[0] > width || at[1] > height) continue;
    const room = width - 2 * LABEL_GAP_PX;
    const lines = twoLines(name).map((line) => shortened(line, (part) => measure(part, font) <= room));
    const half = Math.max(...lines.map((line) => measure(line, font))) / 2 + LABEL_GAP_PX;
    const tall = lines.length * font * LINE_HEIGHT + LABEL_GAP_PX;
    const x = Math.min(Math.max(at[0], half), width - half);
    const tops = LABEL_SHIFTS.map((shift) => at[1] + (shift - 0.5) * tall).map((top) =>
      Math.min(Math.max(top, 0), height - tall),
    );
    const free = tops.find((top) =>
      taken.every(([left, up, right, down]) => x + half <= left || x - half >= right || top + tall <= up || top >= down),
    );
    if (free === undefined && !kept) continue;
    const top = free ?? tops[0];
    taken.push([x - half, top, x + half, top + tall]);
    placed.push({ lines, font, x, y: top + font * LINE_HEIGHT });
  }
  return placed;
}

/**
 * Cut a line until it fits.
 * @param {string} line
 * @param {(line: string) => boolean} fits
 */
function shortened(line, fits) {
  let shown = line;
  for (let end = line.length - 1; end > 0 && !fits(shown); end--) shown = `${line.slice(0, end).trimEnd()}…`;
  return shown;
}

class PointMap {
  /**
   * @param {HTMLElement} node
   * @param {MapEvents} events
   */
  constructor(node, events) {
    this.node = node;
    this.events = events;
    this.canvas = document.createElement("canvas");
    this.overlay = document.createElement("canvas");
    this.overlay.tabIndex = 0;
    this.overlay.setAttribute("role", "img");
    node.append(this.canvas, this.overlay);
    this.raster = new Raster(this.canvas);
    /** @type {Uint16Array} */
    this.points = new Uint16Array(0);
    /** @type {Uint8Array} */
    this.codes = new Uint8Array(0);
    /** @type {Uint8Array} */
    this.levels = new Uint8Array(0);
    this.colors = [0x808080];
    this.hollow = -1;
    /** @type {Group[]} */
    this.labels = [];
    /** @type {Topic[]} */
    this.topics = [];
    /** @type {Topic[]} */
    this.parts = [];
    this.topicsShown = true;
    this.mode = "pan";
    this.zoom = 1;
    /** @type {Pair} */
    this.center = [GRID / 2, GRID / 2];
    /** @type {Point} */
    this.hover = NO_POINT;
    /** @type {Drag | null} */
    this.drag = null;
    this.pixelRatio = 1;
    /** @type {Pair} Zero until the map is laid out. */
    this.size = [0, 0];
    this.frameRequest = 0;
    const eventTypes = /** @type {const} */ ([
      "pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave", "wheel", "keydown",
    ]);
    for (const kind of eventTypes) {
      this.overlay.addEventListener(kind, (event) => this[kind](/** @type {any} */ (event)), { passive: false });
    }
    this.resizeObserver = new ResizeObserver(() => this.fit());
    this.resizeObserver.observe(node);
  }

  close() {
    this.resizeObserver.disconnect();
    cancelAnimationFrame(this.frameRequest);
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.node;
    const pixelRatio = window.devicePixelRatio || 1;
    if (!width || !height) return;
    this.pixelRatio = pixelRatio;
    this.size = [width, height];
    this.overlay.width = Math.round(width * pixelRatio);
    this.overlay.height = Math.round(height * pixelRatio);
    this.raster.resize(this.overlay.width, this.overlay.height);
    this.redraw();
  }

  /**
   * Return the transform from grid units to pixels of the page, or with a pixel ratio of the screen.
   * @returns {View}
   */
  view(pixelRatio = 1) {
    const [width, height] = this.size;
    const scale = ((Math.min(width, height) - 2 * MARGIN) / GRID) * this.zoom * pixelRatio;
    return {
      scale,
      x: (width / 2) * pixelRatio - this.center[0] * scale,
      y: (height / 2) * pixelRatio - this.center[1] * scale,
    };
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {Pair}
   */
  toGrid(x, y) {
    const view = this.view();
    return [(x - view.x) / view.scale, (y - view.y) / view.scale];
  }

  radius() {
    const count = this.codes.length;
    const smallest = count <= 300 ? 5 : count <= 3000 ? 3.5 : count <= 20000 ? 2.2 : 1.3;
    return Math.min(8, smallest * this.zoom ** 0.3) * this.pixelRatio;
  }

  redraw() {
    if (!this.frameRequest) this.frameRequest = requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frameRequest = 0;
    if (!this.size[0]) return;
    const view = this.view(this.pixelRatio);
    this.raster.draw({ ...this, view, radius: this.radius() });
    this.paintOverlay();
  }

  paintOverlay() {
    const context = context2d(this.overlay);
    const style = getComputedStyle(this.node);
    const view = this.view();
    context.setTransform(this.pixelRatio, 0, 0, this.pixelRatio, 0, 0);
    context.clearRect(0, 0, ...this.size);
    context.strokeStyle = context.fillStyle = style.color;
    context.lineWidth = 2;
    if (this.hover !== NO_POINT && 2 * this.hover < this.points.length) {
      const x = view.x + view.scale * this.points[2 * this.hover];
      const y = view.y + view.scale * this.points[2 * this.hover + 1];
      context.beginPath();
      context.arc(x, y, this.radius() / this.pixelRatio + 4, 0, 2 * Math.PI);
      context.stroke();
    }
    this.paintNames(context, style, view);
    if (this.drag?.line) {
      context.strokeStyle = style.color;
      context.lineWidth = 1.5;
      context.setLineDash([5, 4]);
      context.beginPath();
      for (const at of dragOutline(this.drag)) context.lineTo(...at);
      context.closePath();
      context.stroke();
      context.globalAlpha = 0.08;
      context.fill();
      context.globalAlpha = 1;
      context.setLineDash([]);
    }
  }

  /**
   * Write the names of selections, then those of topics, the largest first.
   * @param {CanvasRenderingContext2D} context
   * @param {CSSStyleDeclaration} style
   * @param {View} view
   */
  paintNames(context, style, view) {
    /** @type {(place: Pair) => Pair} */
    const toPage = (place) => [view.x + view.scale * place[0], view.y + view.scale * place[1]];
    const topics = this.topicsShown ? this.topics : [];
    const most = Math.max(1, ...topics.map(({ count }) => count));
    /** @type {MapLabel[]} */
    const labels = [];
    for (const { name, place } of this.labels) if (place) labels.push({ name, at: toPage(place), font: 13, kept: true });
    for (const { name, place, count } of topics) {
      labels.push({ name, at: toPage(place), font: 11 + Math.round(4 * Math.sqrt(count / most)), kept: false });
    }
    // A part is written below its topic where there is space, once one looks closer.
    const parts = this.topicsShown && this.zoom >= PARTS_ZOOM ? this.parts : [];
    for (const { name, place } of parts) labels.push({ name, at: toPage(place), font: 11, kept: false });
    const setFont = (/** @type {number} */ font) => (context.font = `600 ${font}px ${style.fontFamily}`);
    const measure = (/** @type {string} */ line, /** @type {number} */ font) => {
      setFont(font);
      return context.measureText(line).width;
    };
    context.textAlign = "center";
    context.lineJoin = "round";
    context.strokeStyle = style.getPropertyValue("--sky-ground") || "transparent";
    context.lineWidth = 4;
    for (const { lines, font, x, y } of placeLabels(labels, this.size, measure)) {
      setFont(font);
      lines.forEach((line, i) => {
        context.strokeText(line, x, y + i * font * LINE_HEIGHT);
        context.fillText(line, x, y + i * font * LINE_HEIGHT);
      });
    }
  }

  /** @param {Pair} at */
  pointAtPosition([x, y]) {
    const reach = Math.max(HIT_RADIUS_PX * this.pixelRatio, this.radius());
    return this.raster.nearestPoint(x * this.pixelRatio, y * this.pixelRatio, Math.round(reach));
  }

  /** @param {Point} point */
  setHover(point, x = 0, y = 0) {
    if (point === this.hover) return;
    this.hover = point;
    this.events.hovered(point, x, y);
    if (!this.frameRequest) this.paintOverlay();
  }

  /**
   * @param {number} factor
   * @param {number} x
   * @param {number} y
   */
  zoomAt(factor, x, y) {
    const before = this.toGrid(x, y);
    const wasClose = this.zoom >= PARTS_ZOOM;
    this.zoom = Math.min(MAX_ZOOM, Math.max(0.5, this.zoom * factor));
    if (!wasClose && this.zoom >= PARTS_ZOOM) this.events.closer?.();
    const after = this.toGrid(x, y);
    this.center = [this.center[0] + before[0] - after[0], this.center[1] + before[1] - after[1]];
    this.redraw();
  }

  /**
   * @param {number} right
   * @param {number} down
   */
  pan(right, down) {
    const { scale } = this.view();
    this.center = [this.center[0] - right / scale, this.center[1] - down / scale];
    this.redraw();
  }

  showAll() {
    this.zoom = 1;
    this.center = [GRID / 2, GRID / 2];
    this.redraw();
  }

  /** @param {PointerEvent} event */
  pointerdown(event) {
    if (event.button !== 0) return;
    this.overlay.focus({ preventScroll: true });
    this.overlay.setPointerCapture(event.pointerId);
    /** @type {Pair} */
    const at = [event.offsetX, event.offsetY];
    const shape = event.shiftKey && this.mode === "pan" ? "lasso" : this.mode;
    this.drag = { shape, from: at, last: at, moved: false, line: null };
  }

  /** @param {PointerEvent} event */
  pointermove(event) {
    /** @type {Pair} */
    const at = [event.offsetX, event.offsetY];
    const drag = this.drag;
    if (!drag) return this.setHover(this.pointAtPosition(at), ...at);
    drag.moved ||= Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > CLICK_PX;
    if (!drag.moved) return;
    this.setHover(NO_POINT);
    if (drag.shape === "pan") this.pan(at[0] - drag.last[0], at[1] - drag.last[1]);
    else {
      drag.line ??= [drag.from];
      drag.line.push(at);
      this.paintOverlay();
    }
    drag.last = at;
  }

  /** @param {PointerEvent} event */
  pointerup(event) {
    const drag = this.drag;
    if (!drag) return;
    const adding = event.ctrlKey || event.metaKey;
    if (drag.line) {
      const corners = dragOutline(drag).map((at) => this.toGrid(...at));
      this.events.selected(pointsInPolygon(this.points, this.levels, corners), adding);
    } else if (!drag.moved) {
      const point = this.pointAtPosition(drag.from);
      if (point !== NO_POINT) this.events.selected(Uint32Array.of(point), adding);
      else if (!adding) this.events.cleared();
    }
    this.drag = null;
    this.paintOverlay();
  }

  pointercancel() {
    this.drag = null;
    this.paintOverlay();
  }

  pointerleave() {
    if (!this.drag) this.setHover(NO_POINT);
  }

  /**
   * Zoom with the wheel once the map has been clicked, or with Ctrl; otherwise the page scrolls.
   * @param {WheelEvent} event
   */
  wheel(event) {
    if (document.activeElement !== this.overlay && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    this.zoomAt(Math.exp(-event.deltaY * lines * 0.002), event.offsetX, event.offsetY);
  }

  /** @param {KeyboardEvent} event */
  keydown(event) {
    const [width, height] = this.size;
    /** @type {Record<string, () => void>} */
    const actions = {
      ArrowLeft: () => this.pan(PAN_STEP_PX, 0),
      ArrowRight: () => this.pan(-PAN_STEP_PX, 0),
      ArrowUp: () => this.pan(0, PAN_STEP_PX),
      ArrowDown: () => this.pan(0, -PAN_STEP_PX),
      "+": () => this.zoomAt(1.4, width / 2, height / 2),
      "=": () => this.zoomAt(1.4, width / 2, height / 2),
      "-": () => this.zoomAt(1 / 1.4, width / 2, height / 2),
      0: () => this.showAll(),
    };
    if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    actions[event.key]();
  }
}
