// The map: where the page looks at the points from, and what mouse and keys do to that.

const GRID = 65535;
const MARGIN = 14;
const MOST_ZOOM = 400;
const CLICK_PX = 4;
const REACH_PX = 6;
const STEP_PX = 60;

class PointMap {
  // told: {selected(points, adding), hovered(point, x, y), cleared()}
  constructor(node, told) {
    this.node = node;
    this.told = told;
    this.canvas = document.createElement("canvas");
    this.over = document.createElement("canvas");
    this.over.tabIndex = 0;
    this.over.setAttribute("role", "img");
    node.append(this.canvas, this.over);
    this.raster = new Raster(this.canvas);
    this.points = new Uint16Array(0);
    this.codes = new Uint8Array(0);
    this.levels = new Uint8Array(0);
    this.inks = [0x808080];
    this.labels = [];
    this.mode = "pan";
    this.zoom = 1;
    this.middle = [GRID / 2, GRID / 2];
    this.hover = NOTHING;
    this.drag = null;
    this.frame = 0;
    const heard = ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave", "wheel", "keydown"];
    for (const kind of heard) {
      this.over.addEventListener(kind, (event) => this[kind](event), { passive: false });
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

  // Where a point of the grid lies, in pixels of the screen (dense) or of the page.
  view(dense = 1) {
    const [width, height] = this.size;
    const scale = ((Math.min(width, height) - 2 * MARGIN) / GRID) * this.zoom * dense;
    return {
      scale,
      x: (width / 2) * dense - this.middle[0] * scale,
      y: (height / 2) * dense - this.middle[1] * scale,
    };
  }

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
    if (!this.size) return;
    const view = this.view(this.dense);
    this.raster.draw({ ...this, view, radius: this.radius() });
    this.paintOver();
  }

  paintOver() {
    const context = this.over.getContext("2d");
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
      for (const at of this.outline()) context.lineTo(...at);
      context.closePath();
      context.stroke();
      context.globalAlpha = 0.08;
      context.fill();
      context.globalAlpha = 1;
      context.setLineDash([]);
    }
  }

  outline() {
    const { line, shape } = this.drag;
    if (shape !== "box") return line;
    const [[left, top], [right, bottom]] = [line[0], line.at(-1)];
    return [[left, top], [right, top], [right, bottom], [left, bottom]];
  }

  pointHere([x, y]) {
    const reach = Math.max(REACH_PX * this.dense, this.radius());
    return this.raster.pointAt(x * this.dense, y * this.dense, Math.round(reach));
  }

  setHover(point, x = 0, y = 0) {
    if (point === this.hover) return;
    this.hover = point;
    this.told.hovered(point, x, y);
    if (!this.frame) this.paintOver();
  }

  zoomAt(factor, x, y) {
    const before = this.onGrid(x, y);
    this.zoom = Math.min(MOST_ZOOM, Math.max(0.5, this.zoom * factor));
    const after = this.onGrid(x, y);
    this.middle = this.middle.map((value, axis) => value + before[axis] - after[axis]);
    this.redraw();
  }

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

  pointerdown(event) {
    if (event.button !== 0) return;
    this.over.focus({ preventScroll: true });
    this.over.setPointerCapture(event.pointerId);
    const at = [event.offsetX, event.offsetY];
    const shape = event.shiftKey && this.mode === "pan" ? "lasso" : this.mode;
    this.drag = { shape, from: at, last: at, far: false, line: null };
  }

  pointermove(event) {
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

  pointerup(event) {
    const drag = this.drag;
    if (!drag) return;
    const adding = event.ctrlKey || event.metaKey;
    if (drag.line) {
      const corners = this.outline().map((at) => this.onGrid(...at));
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

  // A page that is being scrolled is not caught: the wheel zooms once the map has been clicked, or with Ctrl.
  wheel(event) {
    if (document.activeElement !== this.over && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 20 : 1;
    this.zoomAt(Math.exp(-event.deltaY * lines * 0.002), event.offsetX, event.offsetY);
  }

  keydown(event) {
    const [width, height] = this.size;
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
