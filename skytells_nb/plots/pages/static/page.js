// The script of a page with figures and tables. Texts of rows are set as text, never parsed as HTML.
"use strict";

const SYMBOLS = { circle: "●", diamond: "◆", square: "■", "triangle-up": "▲", "circle-open": "○", "square-open": "□" };
const LIST_ROWS = 60;
const TABLE_ROWS = 25;
const DIM_OPACITY = 0.06;
const LIT_PX = 4;
const SEARCH_DELAY_MS = 150;
const SUBTOPICS_FROM_ZOOM = 1.5;
const ZOOMED = 1.15;
const CHARACTER_WIDTH = 0.58;
const NAMES_IN_VIEW = 40;
const NAME_SHIFTS_PX = [0, 22, -22, 40, -40];
const DTYPES = { f4: Float32Array, f8: Float64Array, i1: Int8Array, u1: Uint8Array, i2: Int16Array, u2: Uint16Array, i4: Int32Array, u4: Uint32Array };

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(text, action) {
  const node = element("button", "", text);
  node.type = "button";
  node.addEventListener("click", action);
  return node;
}

function count(n, noun) {
  return `${n.toLocaleString("en-US")} ${noun}${n === 1 ? "" : "s"}`;
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

async function inflate(id) {
  const stream = new Blob([bytesOf(document.getElementById(id).textContent)]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("gzip"))).text();
}

/** An array of a figure: plotly writes those of numbers as base64. */
function arrayOf(values) {
  if (!values || !values.bdata) return values ?? [];
  return new DTYPES[values.dtype](bytesOf(values.bdata).buffer);
}

/**
 * A cell of a CSV file: quoted, and never what a spreadsheet takes for a formula.
 * @param {string | number | null} value
 */
function csvCell(value) {
  if (value === null || value === undefined) return "";
  const text = String(value);
  const isFormula = typeof value === "string" && /^\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|^[\t\r\n]/.test(text);
  return `"${(isFormula ? `'${text}` : text).replaceAll('"', '""')}"`;
}

function csvOf(head, lines) {
  // Spreadsheets read UTF-8 only after a byte order mark.
  return `\ufeff${[head, ...lines].map((line) => line.map(csvCell).join(",")).join("\r\n")}\r\n`;
}

function download(name, text) {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function inPolygon(x, y, xs, ys) {
  let inside = false;
  for (let a = 0, b = xs.length - 1; a < xs.length; b = a++) {
    if (ys[a] > y !== ys[b] > y && x < ((xs[b] - xs[a]) * (y - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
  }
  return inside;
}

/** Rows with their columns, and a search for words. */
class Rows {
  constructor(data) {
    this.data = data;
    this.size = data.labels.length;
    this.lower = null;
  }

  head() {
    return [this.data.index, ...this.data.columns, ...(this.data.topics ? ["topic"] : [])];
  }

  cells(row) {
    return [this.data.labels[row], ...this.data.cells.map((column) => column[row])];
  }

  line(row) {
    const topic = this.data.topics ? [this.data.topics.names[this.data.topics.codes[row]] ?? null] : [];
    return [...this.cells(row), ...topic];
  }

  /** Which rows have all words, in any column; null if there are no words. */
  matching(query) {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return null;
    this.lower ??= Array.from({ length: this.size }, (_, row) => this.cells(row).map((cell) => cell ?? "").join("\n").toLowerCase());
    return Uint8Array.from(this.lower, (text) => words.every((word) => text.includes(word)));
  }

  save(rows, name) {
    download(name, csvOf(this.head(), rows.map((row) => this.line(row))));
  }
}

/** A map with its rows: search, filter, texts, selection and names. */
class MapPage {
  constructor(node, figure, data) {
    this.rows = new Rows(data);
    this.data = data;
    this.figure = figure;
    this.plot = node.appendChild(element("div", "plot"));
    this.rowAt = new Map(data.positions.map((position, row) => [position, row]));
    this.traces = figure.data.map((trace, number) => ({ trace, number, rows: this.rowsOf(trace) })).filter(({ rows }) => rows.length);
    this.groups = this.findGroups();
    this.off = new Set();
    this.matches = this.selected = null;
    this.buildSide(node.appendChild(element("aside", "sky-side")));
  }

  rowsOf(trace) {
    const positions = arrayOf(trace.customdata);
    return Int32Array.from(positions, (position) => this.rowAt.get(position) ?? -1);
  }

  /** What rows can be filtered by: the topics, or the traces that the legend names; with the rows of each. */
  findGroups() {
    const { topics } = this.data;
    this.groupOf = new Int32Array(this.rows.size).fill(-1);
    if (topics) {
      this.groupOf.set(topics.codes);
      const groups = topics.names.map((name, group) => ({ group, name: name || `topic ${group + 1}`, color: topics.colors[group], symbol: "●" }));
      const rest = this.groupOf.some((code) => code < 0);
      if (rest) this.groupOf = this.groupOf.map((code) => (code < 0 ? groups.length : code));
      return rest ? [...groups, { group: groups.length, name: "no topic", color: "#808080", symbol: "●" }] : groups;
    }
    const named = this.traces.filter(({ trace }) => trace.name);
    if (named.length < 2) return [];
    named.sort((a, b) => (a.trace.legendrank ?? 0) - (b.trace.legendrank ?? 0));
    const parser = new DOMParser();
    return named.map(({ trace, rows }, group) => {
      for (const row of rows) if (row >= 0) this.groupOf[row] = group;
      // The name of a trace is escaped for plotly. A parsed document that is not shown runs no script.
      const name = parser.parseFromString(trace.name, "text/html").body.textContent.replace(/ \([\d,]+\)$/, "");
      const color = typeof trace.marker.color === "string" ? trace.marker.color : "currentColor";
      return { group, name, color, symbol: SYMBOLS[trace.marker.symbol] ?? "●" };
    });
  }

  buildSide(side) {
    this.search = element("input");
    this.search.type = "search";
    this.search.placeholder = "Search the rows";
    this.search.setAttribute("aria-label", "Search the rows");
    let timer = 0;
    this.search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.find(), SEARCH_DELAY_MS);
    });
    this.lasso = button("Lasso", () => this.setMode(this.mode === "lasso" ? "pan" : "lasso"));
    this.lasso.title = "Draw around points to select their rows";
    this.csv = button("Save as CSV", () => this.rows.save(this.lit(), "rows.csv"));
    this.clear = button("Show all", () => this.reset());
    const tools = element("div", "sky-row");
    tools.append(this.lasso, this.csv, this.clear);
    this.status = element("p", "sky-quiet");
    this.status.setAttribute("role", "status");
    this.topics = element("div", "sky-topics");
    for (const group of this.groups) {
      const rows = this.groupOf.reduce((sum, code) => sum + (code === group.group), 0);
      const entry = button("", (event) => this.toggle(group.group, event));
      const mark = element("span", "", group.symbol);
      mark.style.color = group.color;
      entry.append(mark, element("span", "", group.name), element("span", "count", rows.toLocaleString("en-US")));
      this.topics.append(entry);
      group.entry = entry;
    }
    this.text = element("div", "sky-text");
    this.text.hidden = true;
    this.list = element("div", "sky-matches");
    side.append(this.search, tools, this.status, this.topics, this.text, this.list);
    if (this.data.cut) side.append(element("p", "sky-quiet", `Texts are cut to ${count(this.data.cut, "character")}.`));
  }

  async start() {
    const { layout } = this.figure;
    layout.dragmode = "pan";
    layout.showlegend = false;
    layout.autosize = true;
    delete layout.width;
    delete layout.height;
    for (const { trace } of this.traces) {
      const { size } = trace.marker;
      trace.selected = { marker: { opacity: 0.95, ...(typeof size === "number" && { size: Math.max(1.4 * size, LIT_PX) }) } };
      trace.unselected = { marker: { opacity: DIM_OPACITY } };
    }
    this.annotations = layout.annotations ?? [];
    const config = { responsive: true, scrollZoom: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
    await Plotly.newPlot(this.plot, { ...this.figure, config });
    const range = (axis) => [...this.plot._fullLayout[axis].range];
    this.home = { x: range("xaxis"), y: range("yaxis") };
    this.plot.on("plotly_click", ({ points }) => this.open(this.rowAt.get(points[0].customdata)));
    this.plot.on("plotly_selected", (event) => this.select(event));
    this.plot.on("plotly_deselect", () => this.select(null));
    this.plot.on("plotly_relayout", (changes) => {
      if (Object.keys(changes).some((key) => /axis|autosize/.test(key))) this.writeNames();
    });
    new ResizeObserver(() => this.writeNames()).observe(this.plot);
    this.setMode("pan");
    this.writeNames();
    this.update();
  }

  setMode(mode) {
    this.mode = mode;
    this.lasso.setAttribute("aria-pressed", mode === "lasso");
    return Plotly.relayout(this.plot, { dragmode: mode });
  }

  find() {
    this.matches = this.rows.matching(this.search.value);
    this.update();
  }

  /** The first click on a topic shows it alone, as a legend that is clicked twice does; with a key it switches one. */
  toggle(group, { ctrlKey, metaKey, shiftKey }) {
    const others = this.groups.map((entry) => entry.group).filter((other) => other !== group);
    const alone = !this.off.has(group) && others.every((other) => this.off.has(other));
    if (ctrlKey || metaKey || shiftKey) this.off.has(group) ? this.off.delete(group) : this.off.add(group);
    else if (alone) this.off.clear();
    else if (this.off.size) this.off.has(group) ? this.off.delete(group) : this.off.add(group);
    else this.off = new Set(others);
    this.update();
  }

  select(event) {
    const shape = event?.lassoPoints ?? (event?.range && { x: [0, 1, 1, 0].map((i) => event.range.x[i]), y: [0, 0, 1, 1].map((i) => event.range.y[i]) });
    this.selected = null;
    if (shape) {
      this.selected = new Uint8Array(this.rows.size);
      for (const { trace, rows } of this.traces) {
        const [x, y] = [arrayOf(trace.x), arrayOf(trace.y)];
        rows.forEach((row, at) => {
          if (row >= 0 && inPolygon(x[at], y[at], shape.x, shape.y)) this.selected[row] = 1;
        });
      }
    }
    this.update();
  }

  reset() {
    this.search.value = "";
    this.matches = this.selected = null;
    this.off.clear();
    this.text.hidden = true;
    this.update();
    Plotly.relayout(this.plot, { selections: [], "xaxis.range": this.home.x, "yaxis.range": this.home.y });
  }

  isLit(row) {
    return (!this.matches || this.matches[row]) && (!this.selected || this.selected[row]) && !this.off.has(this.groupOf[row]);
  }

  lit() {
    return Array.from({ length: this.rows.size }, (_, row) => row).filter((row) => this.isLit(row));
  }

  update() {
    const lit = this.lit();
    const all = !this.matches && !this.selected && !this.off.size;
    const points = this.traces.map(({ rows }) => (all ? null : Array.from(rows.keys()).filter((at) => rows[at] >= 0 && this.isLit(rows[at]))));
    Plotly.restyle(this.plot, { selectedpoints: points }, this.traces.map(({ number }) => number));
    for (const { group, entry } of this.groups) entry.setAttribute("aria-pressed", !this.off.has(group));
    const total = count(this.rows.size, "row");
    this.status.textContent = all ? `${total}. Click a point for its text; scroll to zoom.` : `${lit.length.toLocaleString("en-US")} of ${total}.`;
    this.csv.disabled = !lit.length;
    this.list.replaceChildren(...(all ? [] : lit.slice(0, LIST_ROWS).map((row) => this.entry(row))));
    if (!all && lit.length > LIST_ROWS) this.list.append(element("p", "sky-quiet", `and ${count(lit.length - LIST_ROWS, "more row")}`));
  }

  entry(row) {
    const text = this.data.cells.map((column) => column[row]).find((cell) => typeof cell === "string");
    const node = button("", () => this.open(row));
    node.append(element("span", "", text ?? String(this.data.labels[row])));
    return node;
  }

  open(row) {
    if (row === undefined) return;
    const list = element("dl");
    this.rows.head().forEach((name, at) => {
      const cell = this.rows.line(row)[at];
      if (cell !== null) list.append(element("dt", "", name), element("dd", "", String(cell)));
    });
    this.text.replaceChildren(list);
    this.text.hidden = false;
    this.text.scrollTop = 0;
  }

  /** At first the names are where they were laid out; on zoom those that fit into the view, also of parts of topics. */
  writeNames() {
    if (!this.home) return;
    const { xaxis, yaxis } = this.plot._fullLayout;
    const { names } = this.data;
    const zoom = Math.min(...[[xaxis, this.home.x], [yaxis, this.home.y]].map(([axis, range]) => (range[1] - range[0]) / (axis.range[1] - axis.range[0])));
    const wide = xaxis._length >= 0.9 * this.data.plot_width;
    const others = this.annotations.filter(({ name }) => name !== "cluster");
    if (!names.length || (zoom < ZOOMED && wide)) return this.setAnnotations(this.annotations);
    const shown = [];
    const boxes = [];
    const candidates = names.filter(({ level }) => level === 1 || zoom >= SUBTOPICS_FROM_ZOOM).sort((a, b) => a.level - b.level || b.rows - a.rows);
    for (const name of candidates) {
      const [x, y] = [xaxis.l2p(name.x), yaxis.l2p(name.y)];
      if (x < 0 || y < 0 || x > xaxis._length || y > yaxis._length || shown.length >= NAMES_IN_VIEW) continue;
      const font = name.level === 1 ? 15 : 12;
      const width = name.text.length * font * CHARACTER_WIDTH;
      const center = Math.min(Math.max(x, width / 2), xaxis._length - width / 2);
      const meets = (box) => boxes.some((other) => Math.abs(other[0] - box[0]) < other[2] + box[2] && Math.abs(other[1] - box[1]) < 0.75 * (other[3] + box[3]));
      const box = NAME_SHIFTS_PX.map((shift) => [center, y + shift, width / 2 + 4, font]).find((other) => !meets(other));
      if (!box) continue;
      boxes.push(box);
      shown.push({ x: name.x, y: name.y, xshift: box[0] - x, yshift: y - box[1], text: name.text, showarrow: false, name: "cluster", font: { ...this.nameFont(), size: font, color: name.color } });
    }
    return this.setAnnotations([...others, ...shown]);
  }

  nameFont() {
    return { weight: "bold", shadow: this.annotations.find(({ name }) => name === "cluster")?.font?.shadow };
  }

  setAnnotations(annotations) {
    const written = JSON.stringify(annotations);
    if (written === this.written) return;
    this.written = written;
    Plotly.relayout(this.plot, { annotations });
  }
}

/** A table of rows: search, order by a column, pages, CSV. A click on a row shows its cells in full. */
class TablePage {
  constructor(node, data) {
    this.rows = new Rows(data);
    this.data = data;
    this.page = 0;
    this.order = null;
    this.search = element("input");
    this.search.type = "search";
    this.search.placeholder = "Search the rows";
    this.search.setAttribute("aria-label", "Search the rows");
    let timer = 0;
    this.search.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.find(), SEARCH_DELAY_MS);
    });
    this.status = element("span", "sky-quiet");
    this.status.setAttribute("role", "status");
    this.before = button("Previous", () => this.turn(-1));
    this.after = button("Next", () => this.turn(1));
    const tools = element("div", "sky-row");
    tools.append(this.before, this.after, button("Save as CSV", () => this.rows.save(this.listed, "rows.csv")), this.status);
    const table = element("table");
    this.head = table.createTHead().insertRow();
    this.body = table.createTBody();
    this.rows.head().forEach((name, at) => {
      const cell = element("th");
      cell.append(button(name, () => this.sort(at)));
      this.head.append(cell);
    });
    const scroll = element("div", "sky-scroll");
    scroll.append(table);
    node.className = "sky-table";
    node.append(this.search, tools, scroll);
    if (data.cut) node.append(element("p", "sky-quiet", `Texts are cut to ${count(data.cut, "character")}.`));
    this.find();
  }

  find() {
    this.matches = this.rows.matching(this.search.value);
    this.list();
  }

  sort(at) {
    const descending = this.order?.at === at && !this.order.descending;
    this.order = { at, descending };
    [...this.head.cells].forEach((cell, other) => cell.setAttribute("aria-sort", other !== at ? "none" : descending ? "descending" : "ascending"));
    this.list();
  }

  /** Which rows are listed, in which order; empty cells come last. */
  list() {
    const rows = Array.from({ length: this.rows.size }, (_, row) => row);
    this.listed = this.matches ? rows.filter((row) => this.matches[row]) : rows;
    if (this.order) {
      const { at, descending } = this.order;
      const column = at ? this.data.cells[at - 1] : this.data.labels;
      const compared = new Intl.Collator(undefined, { numeric: true });
      this.listed.sort((a, b) => {
        const [x, y] = [column[a], column[b]];
        if (x === null || y === null) return (x === null) - (y === null);
        const difference = typeof x === "number" && typeof y === "number" ? x - y : compared.compare(String(x), String(y));
        return descending ? -difference : difference;
      });
    }
    this.page = 0;
    this.show();
  }

  turn(pages) {
    this.page += pages;
    this.show();
  }

  show() {
    const first = this.page * TABLE_ROWS;
    const shown = this.listed.slice(first, first + TABLE_ROWS);
    this.body.replaceChildren(...shown.map((row) => this.line(row)));
    this.before.disabled = !this.page;
    this.after.disabled = first + TABLE_ROWS >= this.listed.length;
    const part = shown.length ? `${(first + 1).toLocaleString("en-US")} to ${(first + shown.length).toLocaleString("en-US")} of ` : "";
    this.status.textContent = `${part}${count(this.listed.length, "row")}`;
  }

  line(row) {
    const line = element("tr");
    line.tabIndex = 0;
    const toggle = () => line.classList.toggle("open");
    line.addEventListener("click", () => !String(getSelection()) && toggle());
    line.addEventListener("keydown", (event) => event.key === "Enter" && toggle());
    for (const cell of this.rows.line(row)) {
      const node = element("td");
      node.append(element("div", "cut", cell === null ? "—" : String(cell)));
      line.append(node);
    }
    return line;
  }
}

async function start() {
  const data = JSON.parse(await inflate("sky-data"));
  const figures = document.querySelectorAll("[data-figure]");
  if (figures.length) {
    const script = element("script");
    script.nonce = start.nonce;
    script.textContent = await inflate("sky-plotly");
    document.head.append(script);
  }
  for (const node of document.querySelectorAll("[data-table]")) new TablePage(node, data.tables[node.dataset.table]);
  for (const node of figures) {
    const { figure, rows } = data.figures[node.dataset.figure];
    if (rows) await new MapPage(node, figure, rows).start();
    else {
      const plot = node.appendChild(element("div", "plot"));
      await Plotly.newPlot(plot, { ...figure, config: { responsive: true, displaylogo: false } });
    }
  }
  document.documentElement.dataset.ready = "true";
}

if (typeof document !== "undefined" && document.currentScript) {
  start.nonce = document.currentScript.nonce;
  start().catch((problem) => {
    const note = `This page could not be shown: ${problem}. It needs a browser of 2023 or later.`;
    document.body.prepend(element("p", "sky-problem", note));
  });
}
