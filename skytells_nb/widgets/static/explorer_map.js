// The map: where the page looks at the points from, and what mouse and keys do to that.

const GRID = 65535;
const MARGIN = 14;
const MOST_ZOOM = 400;
const CLICK_PX = 4;
const REACH_PX = 6;
const STEP_PX = 60;

/**
 * The corners of what is being drawn: of a box from its first and its last point.
 * @param {Pick<Drag, "line" | "shape">} drag
 * @returns {Pair[]}
 */
function outline({ line, shape }) {
  if (!line || shape !== "box") return line ?? [];
  const [left, top] = line[0];
  const [right, bottom] = line[line.length - 1];
  return [[left, top], [right, top], [right, bottom], [left, bottom]];
}

class PointMap {
  /**
   * @param {HTMLElement} node
   * @param {MapEvents} told
   */
  constructor(node, told) {
    this.node = node;
    this.told = told;
    this.canvas = document.createElement("canvas");
    this.over = document.createElement("canvas");
    this.over.tabIndex = 0;
    this.over.setAttribute("role", "img");
    node.append(this.canvas, this.over);
    this.raster = new Raster(this.canvas);
    /** @type {Uint16Array} */
    this.points = new Uint16Array(0);
    /** @type {Uint8Array} */
    this.codes = new Uint8Array(0);
    /** @type {Uint8Array} */
    this.levels = new Uint8Array(0);
    this.inks = [0x808080];
    /** @type {Group[]} */
    this.labels = [];
    this.mode = "pan";
    this.zoom = 1;
    /** @type {Pair} */
    this.middle = [GRID / 2, GRID / 2];
    /** @type {Point} */
    this.hover = NOTHING;
    /** @type {Drag | null} */
    this.drag = null;
    this.dense = 1;
    /** @type {Pair} Zero until the map is laid out. */
    this.size = [0, 0];
    this.frame = 0;
    const heard = /** @type {const} */ ([
      "pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave", "wheel", "keydown",
    ]);
    for (const kind of heard) {
      this.over.addEventListener(kind, (event) => this[kind](/** @type {any} */ (event)), { passive: false });
    }
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(node);
  }

  close() {
    this.watch.disconnect();
    cancelAnimationFrame(this.frame);
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.node;
    const dense = window.devicePixelRatio || 1;
    if (!width || !height) return;
    this.dense = dense;
    this.size = [width, height];
    this.over.width = Math.round(width * dense);
    this.over.height = Math.round(height * dense);
    this.raster.resize(this.over.width, this.over.height);
    this.redraw();
  }

  /**
   * Where a point of the grid lies, in pixels of the screen (dense) or of the page.
   * @returns {View}
   */
  view(dense = 1) {
    const [width, height] = this.size;
    const scale = ((Math.min(width, height) - 2 * MARGIN) / GRID) * this.zoom * dense;
    return {
      scale,
      x: (width / 2) * dense - this.middle[0] * scale,
      y: (height / 2) * dense - this.middle[1] * scale,
    };
  }

  /**
   * @param {number} x
   * @param {number} y
   * @returns {Pair}
   */
  onGrid(x, y) {
    const view = this.view();
    return [(x - view.x) / view.scale, (y - view.y) / view.scale];
  }

  radius() {
    const count = this.codes.length;
    const least = count <= 300 ? 5 : count <= 3000 ? 3.5 : count <= 20000 ? 2.2 : 1.3;
    return Math.min(8, least * this.zoom ** 0.3) * this.dense;
  }

  redraw() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.frame = 0;
    if (!this.size[0]) return;
    const view = this.view(this.dense);
    this.raster.draw({ ...this, view, radius: this.radius() });
    this.paintOver();
  }

  paintOver() {
    const context = context2d(this.over);
    const style = getComputedStyle(this.node);
    const view = this.view();
    context.setTransform(this.dense, 0, 0, this.dense, 0, 0);
    context.clearRect(0, 0, ...this.size);
    context.strokeStyle = context.fillStyle = style.color;
    context.lineWidth = 2;
    if (this.hover !== NOTHING && 2 * this.hover < this.points.length) {
      const x = view.x + view.scale * this.points[2 * this.hover];
      const y = view.y + view.scale * this.points[2 * this.hover + 1];
      context.beginPath();
      context.arc(x, y, this.radius() / this.dense + 4, 0, 2 * Math.PI);
      context.stroke();
    }
    context.font = `600 13px ${style.fontFamily}`;
    context.textAlign = "center";
    for (const { name, place } of this.labels) {
      if (!place) continue;
      /** @type {Pair} */
      const at = [view.x + view.scale * place[0], view.y + view.scale * place[1]];
      context.strokeStyle = style.getPropertyValue("--sky-ground") || "transparent";
      context.lineWidth = 4;
      context.strokeText(name, ...at);
      context.fillText(name, ...at);
    }
    if (this.drag?.line) {
      context.strokeStyle = style.color;
      context.lineWidth = 1.5;
      context.setLineDash([5, 4]);
      context.beginPath();
      for (const at of outline(this.drag)) context.lineTo(...at);
      context.closePath();
      context.stroke();
      context.globalAlpha = 0.08;
      context.fill();
      context.globalAlpha = 1;
      context.setLineDash([]);
    }
  }

  /** @param {Pair} at */
  pointHere([x, y]) {
    const reach = Math.max(REACH_PX * this.dense, this.radius());
    return this.raster.pointAt(x * this.dense, y * this.dense, Math.round(reach));
  }

  /** @param {Point} point */
  setHover(point, x = 0, y = 0) {
    if (point === this.hover) return;
    this.hover = point;
    this.told.hovered(point, x, y);
    if (!this.frame) this.paintOver();
  }

  /**
   * @param {number} factor
   * @param {number} x
   * @param {number} y
   */
  zoomAt(factor, x, y) {
    const before = this.onGrid(x, y);
    this.zoom = Math.min(MOST_ZOOM, Math.max(0.5, this.zoom * factor));
    const after = this.onGrid(x, y);
    this.middle = [this.middle[0] + before[0] - after[0], this.middle[1] + before[1] - after[1]];
    this.redraw();
  }

  /**
   * @param {number} right
   * @param {number} down
   */
  move(right, down) {
    const { scale } = this.view();
    this.middle = [this.middle[0] - right / scale, this.middle[1] - down / scale];
    this.redraw();
  }

  whole() {
    this.zoom = 1;
    this.middle = [GRID / 2, GRID / 2];
    this.redraw();
  }

  /** @param {PointerEvent} event */
  pointerdown(event) {
    if (event.button !== 0) return;
    this.over.focus({ preventScroll: true });
    this.over.setPointerCapture(event.pointerId);
    /** @type {Pair} */
    const at = [event.offsetX, event.offsetY];
    const shape = event.shiftKey && this.mode === "pan" ? "lasso" : this.mode;
    this.drag = { shape, from: at, last: at, far: false, line: null };
  }

  /** @param {PointerEvent} event */
  pointermove(event) {
    /** @type {Pair} */
    const at = [event.offsetX, event.offsetY];
    const drag = this.drag;
    if (!drag) return this.setHover(this.pointHere(at), ...at);
    drag.far ||= Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) > CLICK_PX;
    if (!drag.far) return;
    this.setHover(NOTHING);
    if (drag.shape === "pan") this.move(at[0] - drag.last[0], at[1] - drag.last[1]);
    else {
      drag.line ??= [drag.from];
      drag.line.push(at);
      this.paintOver();
    }
    drag.last = at;
  }

  /** @param {PointerEvent} event */
  pointerup(event) {
    const drag = this.drag;
    if (!drag) return;
    const adding = event.ctrlKey || event.metaKey;
    if (drag.line) {
      const corners = outline(drag).map((at) => this.onGrid(...at));
      this.told.selected(within(this.points, this.levels, corners), adding);
    } else if (!drag.far) {
      const point = this.pointHere(drag.from);
      if (point !== NOTHING) this.told.selected(Uint32Array.of(point), adding);
      else if (!adding) this.told.cleared();
    }
    this.drag = null;
    this.paintOver();
  }

  pointercancel() {
    this.drag = null;
    this.paintOver();
  }

  pointerleave() {
    if (!this.drag) this.setHover(NOTHING);
  }

  /**
   * A page that is being scrolled is not caught: the wheel zooms once the map has been clicked, or with Ctrl.
   * @param {WheelEvent} event
   */
  wheel(event) {
    if (document.activeElement !== this.over && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    this.zoomAt(Math.exp(-event.deltaY * lines * 0.002), event.offsetX, event.offsetY);
  }

  /** @param {KeyboardEvent} event */
  keydown(event) {
    const [width, height] = this.size;
    /** @type {Record<string, () => void>} */
    const acts = {
      ArrowLeft: () => this.move(STEP_PX, 0),
      ArrowRight: () => this.move(-STEP_PX, 0),
      ArrowUp: () => this.move(0, STEP_PX),
      ArrowDown: () => this.move(0, -STEP_PX),
      "+": () => this.zoomAt(1.4, width / 2, height / 2),
      "=": () => this.zoomAt(1.4, width / 2, height / 2),
      "-": () => this.zoomAt(1 / 1.4, width / 2, height / 2),
      0: () => this.whole(),
    };
    if (!acts[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    acts[event.key]();
  }
}
