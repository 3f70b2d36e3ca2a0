// The explorer's page side. Nothing of the data is ever parsed: cells, names and questions are set as text.

const MODES = { pan: "Move", box: "Box", lasso: "Lasso" };
const HOVER_MS = 60;
const SEARCH_MS = 250;
const TEXT_TYPES = { autocomplete: "off", spellcheck: "false" };

/**
 * @param {string} label
 * @param {string} className
 */
function field(label, className) {
  const node = element("input", className);
  node.placeholder = label;
  node.setAttribute("aria-label", label);
  for (const [name, value] of Object.entries(TEXT_TYPES)) node.setAttribute(name, value);
  return node;
}

/** @param {number} number */
function counted(number) {
  return number.toLocaleString("en");
}

/**
 * #rrggbb as the pixels of an image hold it.
 * @param {string} color
 */
function ink(color) {
  const value = parseInt(color.slice(1), 16);
  return ((value & 255) << 16) | (value & 0xff00) | (value >> 16);
}

/**
 * The numbers in a buffer, copied: its start need not be a multiple of their size.
 * @template Numbers
 * @param {DataView} view
 * @param {new (buffer: ArrayBuffer) => Numbers} kind
 */
function bytes(view, kind) {
  const copy = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  return new kind(/** @type {ArrayBuffer} */ (copy));
}

/**
 * In JupyterLab the notebook's own model is at hand: it keeps the saved form where a reload made the page forget which
 * output a display id belongs to. The picture is the output before the table. Elsewhere this does nothing.
 * @param {NotebookManager | undefined} manager
 * @param {string} name
 * @param {SavedExplorer} saved
 */
function keepSaved(manager, name, { picture, table }) {
  for (const cell of manager?.context?.model?.cells ?? []) {
    const outputs = cell.outputs;
    if (!outputs) continue;
    for (let i = 0; i < outputs.length; i++) {
      const html = outputs.get(i).data?.["text/html"];
      if (typeof html !== "string" || !html.includes(name) || html === table["text/html"]) continue;
      outputs.get(i).setData({ data: table });
      if (i > 0 && outputs.get(i - 1).data?.["image/png"]) outputs.get(i - 1).setData({ data: picture });
    }
  }
}

/** @param {{model: Model<ExplorerTraits>, el: HTMLElement}} props */
function render({ model, el }) {
  const name = model.get("saved_class").replace(/[^\w-]/g, "");
  const root = element("section", "explorer");
  root.setAttribute("aria-label", model.get("title"));
  const hide = element("style");
  // The second hides the picture, the output before the table.
  const child = ".jp-OutputArea-child";
  const hidden = `.${name}, ${child}:has(.${name}), ${child}:has(+ ${child} .${name})`;
  hide.textContent = `${hidden} { display: none !important; }`;

  const head = element("div", "explorer-bar");
  const colors = element("select", "color");
  const colorLabel = element("label", "", "Colour ");
  colorLabel.append(colors);
  const modes = element("div", "modes");
  modes.setAttribute("role", "group");
  modes.setAttribute("aria-label", "What dragging does");
  const modeButtons = Object.fromEntries(
    Object.entries(MODES).map(([mode, words]) => [mode, button(words, `mode-${mode}`, () => setMode(mode))]),
  );
  modes.append(...Object.values(modeButtons), button("Whole map", "whole", () => map.whole()));
  head.append(element("strong", "", model.get("title")), colorLabel, modes);

  const question = field("Ask: which rows are nearest to …", "question");
  const ask = button("Light up", "ask", submit);
  const forget = button("Clear", "forget", () => model.send({ kind: "forget" }));
  const search = field("Search the text", "search");
  const asking = element("div", "explorer-bar");
  asking.append(question, ask, forget, search);

  const place = element("div", "map");
  const tip = element("div", "tip");
  tip.hidden = true;
  const legend = element("div", "legend");
  legend.setAttribute("role", "group");
  legend.setAttribute("aria-label", "Legend");
  const caption = element("div", "caption");
  const map = new PointMap(place, { selected: select, hovered: hover, cleared: () => send([]) });
  place.append(tip);

  const doing = element("div", "explorer-bar");
  const what = element("span", "what");
  const take = button("Select all shown", "take", () => model.send({ kind: "take" }));
  take.setAttribute("aria-keyshortcuts", "Control+A");
  take.title = "What question, search and legend leave (Ctrl+A)";
  const clear = button("Select nothing", "clear", () => send([]));
  const giveName = button("Name the selection", "name", () => model.send({ kind: "name" }));
  const groups = element("span", "groups");
  doing.append(what, take, clear, giveName, groups);
  const table = element("table", "rows");
  const frame = element("div", "frame");
  frame.append(table);
  const pager = element("div", "explorer-bar");
  const back = button("Previous", "back", () => turn(-1));
  const on = button("Next", "next", () => turn(1));
  const where = element("span", "where");
  pager.append(back, where, on);
  const status = element("div", "status");
  status.setAttribute("role", "status");
  root.append(hide, head, asking, place, legend, caption, doing, frame, pager, status);
  el.append(root);

  /** @type {{selected: Uint32Array, lit: Uint32Array, matching: Uint32Array | null}} */
  let marks = { selected: new Uint32Array(0), lit: new Uint32Array(0), matching: null };
  /** @type {Point} */
  let wanted = NOTHING;
  let waiting = 0;
  let typing = 0;
  let asked = false;

  /** @param {Iterable<Point>} points */
  function send(points) {
    model.send({ kind: "select" }, undefined, [Uint32Array.from(points).buffer]);
  }

  /**
   * @param {Uint32Array} points
   * @param {boolean} adding
   */
  function select(points, adding) {
    if (!adding) return send(points);
    const have = new Set(marks.selected);
    // Ctrl+click on a selected point takes it out again.
    if (points.length === 1 && have.has(points[0])) have.delete(points[0]);
    else for (const point of points) have.add(point);
    send(have);
  }

  /**
   * @param {Point} point
   * @param {number} x
   * @param {number} y
   */
  function hover(point, x, y) {
    tip.hidden = true;
    wanted = point;
    clearTimeout(waiting);
    if (point === NOTHING) return mark(NOTHING);
    mark(point);
    tip.style.left = `${Math.min(x + 12, Math.max(0, place.clientWidth - 280))}px`;
    tip.style.top = `${y + 14}px`;
    waiting = setTimeout(() => model.send({ kind: "hover", point }), HOVER_MS);
  }

  /** @param {Point} point */
  function mark(point) {
    for (const line of /** @type {NodeListOf<HTMLElement>} */ (table.querySelectorAll("tbody tr"))) {
      line.dataset.hovered = String(Number(line.dataset.point) === point);
    }
  }

  /** @param {HoveredRow} hovered */
  function showTip({ point, columns, row }) {
    if (point !== wanted || map.drag) return;
    tip.replaceChildren(
      ...row.cells.map((cell, i) => {
        const line = element("div", "tip-line");
        line.append(element("span", "tip-name", `${columns[i]} `), cell);
        return line;
      }),
    );
    tip.hidden = false;
  }

  function levels() {
    const hidden = new Set(model.get("hidden"));
    const count = map.codes.length;
    const some = marks.selected.length || marks.lit.length || marks.matching;
    const found = new Uint8Array(count).fill(some ? DIM : PLAIN);
    for (const point of marks.matching ?? []) if (!marks.selected.length) found[point] = PLAIN;
    for (const point of marks.selected) found[point] = PLAIN;
    for (const point of marks.lit) found[point] = LIT;
    if (hidden.size) for (let i = 0; i < count; i++) if (hidden.has(map.codes[i])) found[i] = HIDDEN;
    map.levels = found;
    map.over.setAttribute("aria-label", `${model.get("title")}: ${model.get("caption")}. ${model.get("table").what}`);
    root.dataset.points = String(count);
    map.redraw();
  }

  /**
   * @param {boolean} filtered
   * @param {DataView[]} buffers
   */
  function showMarks(filtered, buffers) {
    const [selected, lit, matching] = buffers.map((buffer) => bytes(buffer, Uint32Array));
    marks = { selected, lit, matching: filtered ? matching : null };
    clear.hidden = !selected.length;
    root.dataset.selected = String(selected.length);
    root.dataset.lit = String(lit.length);
    enable();
    levels();
  }

  function showLegend() {
    const { kind, entries = [], low = "", high = "" } = model.get("legend");
    const hidden = new Set(model.get("hidden"));
    legend.replaceChildren();
    if (kind === "numbers") {
      const scale = element("span", "scale");
      scale.style.background = `linear-gradient(to right, ${model.get("palette").slice(0, 255).join(", ")})`;
      legend.append(element("span", "", low), scale, element("span", "", high));
    }
    for (const { code, color, name: words, count } of entries) {
      const entry = button(`${words} (${counted(count)})`, "entry", () => toggle(code));
      entry.setAttribute("aria-pressed", String(!hidden.has(code)));
      const patch = element("span", "patch");
      patch.style.background = color;
      entry.prepend(patch);
      legend.append(entry);
    }
    map.inks = model.get("palette").map(ink);
    levels();
  }

  /** @param {number} code */
  function toggle(code) {
    const hidden = model.get("hidden");
    model.set("hidden", hidden.includes(code) ? hidden.filter((other) => other !== code) : [...hidden, code]);
    model.save_changes();
  }

  function showTable() {
    const { columns = [], rows = [], what: words = "", total = 0, page = 0, pages = 0 } = model.get("table");
    const line = element("tr");
    line.append(...columns.map((column) => Object.assign(element("th", "", column), { scope: "col" })));
    const top = element("thead");
    top.append(line);
    const body = element("tbody");
    for (const { point, cells } of rows) {
      const row = element("tr");
      row.dataset.point = String(point);
      row.append(...cells.map((cell) => element("td", "", cell)));
      if (point >= 0) {
        row.tabIndex = 0;
        for (const kind of ["mouseenter", "focus"]) row.addEventListener(kind, () => ring(point));
        for (const kind of ["mouseleave", "blur"]) row.addEventListener(kind, () => ring(NOTHING));
        row.addEventListener("click", (event) => select(Uint32Array.of(point), event.ctrlKey || event.metaKey));
        row.addEventListener("keydown", (event) => {
          if (event.key === "Enter") select(Uint32Array.of(point), event.ctrlKey || event.metaKey);
        });
      }
      body.append(row);
    }
    table.replaceChildren(top, body);
    what.textContent = words;
    const first = total ? page * 10 + 1 : 0;
    const last = total ? first + rows.length - 1 : 0;
    where.textContent = `${counted(first)}–${counted(last)} of ${counted(total)}`;
    back.disabled = page <= 0;
    on.disabled = page + 1 >= pages;
  }

  /** @param {Point} point */
  function ring(point) {
    map.hover = point;
    map.paintOver();
  }

  /** @param {number} by */
  function turn(by) {
    model.set("page", model.get("page") + by);
    model.save_changes();
  }

  function showColors() {
    const options = [new Option("one colour", "-1")];
    for (const { number, label } of model.get("columns")) options.push(new Option(label, String(number)));
    colors.replaceChildren(...options);
    colors.value = String(model.get("color"));
  }

  function showGroups() {
    const found = model.get("groups");
    groups.replaceChildren(
      ...found.map(({ name: words, count, facts }, number) => {
        const node = button(`${words} (${counted(count)})`, "group", () => model.send({ kind: "group", number }));
        node.title = facts;
        return node;
      }),
    );
    map.labels = found;
    map.redraw();
  }

  function enable() {
    const busy = Boolean(model.get("busy"));
    ask.disabled = busy;
    giveName.disabled = busy || !marks.selected.length || !model.get("searchable");
    search.disabled = !model.get("searchable");
    forget.hidden = !model.get("question");
    root.setAttribute("aria-busy", String(busy));
    status.textContent = busy ? `${model.get("busy")} …` : model.get("status");
    if (asked && !busy) submit();
  }

  /** @param {string} mode */
  function setMode(mode) {
    map.mode = mode;
    place.dataset.mode = mode;
    for (const [other, node] of Object.entries(modeButtons)) node.setAttribute("aria-pressed", String(other === mode));
  }

  // What is entered while something else is under way is asked once that is over.
  function submit() {
    asked = Boolean(question.value.trim());
    if (!asked || model.get("busy")) return;
    asked = false;
    model.send({ kind: "ask", text: question.value });
  }

  /**
   * @param {ExplorerMessage} message
   * @param {DataView[]} buffers
   */
  function received(message, buffers) {
    if (message.kind === "points") {
      map.points = bytes(buffers[0], Uint16Array);
      map.codes = bytes(buffers[1], Uint8Array);
      levels();
    } else if (message.kind === "codes") {
      map.codes = bytes(buffers[0], Uint8Array);
      levels();
    } else if (message.kind === "marks") showMarks(message.filtered, buffers);
    else if (message.kind === "hovered") showTip(message);
    else if (message.kind === "saved") keepSaved(/** @type {any} */ (model.widget_manager), name, message);
  }

  root.addEventListener("keydown", (event) => {
    // Notebook shortcuts are not for the explorer: x would cut the cell.
    if (!((event.ctrlKey || event.metaKey) && event.key === "s")) event.stopPropagation();
    const typed = event.target === question || event.target === search;
    if (!typed && (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a") {
      event.preventDefault();
      model.send({ kind: "take" });
    }
    if (event.key === "Escape") {
      event.preventDefault();
      if (map.drag) map.pointercancel();
      else send([]);
    }
  });
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) submit();
  });
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      model.set("search", search.value);
      model.save_changes();
    }, SEARCH_MS);
  });
  colors.addEventListener("change", () => {
    model.set("color", Number(colors.value));
    model.save_changes();
  });

  const showQuestion = () => {
    if (document.activeElement !== question || !question.value) question.value = model.get("question");
    enable();
  };
  const showSearch = () => {
    if (document.activeElement !== search) search.value = model.get("search");
  };
  /** @type {Record<string, (...values: any[]) => void>} */
  const handlers = {
    "change:table": showTable,
    "change:legend": showLegend,
    "change:hidden": showLegend,
    "change:color": showColors,
    "change:groups": showGroups,
    "change:question": showQuestion,
    "change:search": showSearch,
    "change:busy": enable,
    "change:status": enable,
    "msg:custom": received,
  };
  for (const [event, handler] of Object.entries(handlers)) model.on(event, handler);
  caption.textContent = model.get("caption");
  setMode("pan");
  showColors();
  showTable();
  showLegend();
  showGroups();
  showQuestion();
  showSearch();
  map.fit();
  model.send({ kind: "ready" });
  return () => {
    map.close();
    for (const [event, handler] of Object.entries(handlers)) model.off(event, handler);
  };
}

export default { render };
