// The explorer's script. It never parses data: cells, names and questions are set as text.

const MODES = { pan: "Move", box: "Box", lasso: "Lasso" };
/** What the mouse does in each mode. */
const DRAGS = {
  pan: "Drag moves, Shift+drag selects what it goes around",
  box: "Drag selects what is in the box",
  lasso: "Drag selects what it goes around",
};
const GESTURES =
  "a click selects a point, Ctrl+click one more · the wheel zooms after a click on the map · keys: arrows, +, −, 0, " +
  "Ctrl+A selects all shown, Esc nothing";
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
function formatCount(number) {
  return number.toLocaleString("en");
}

/**
 * Convert #rrggbb to 0x00bbggrr, the byte order of image data.
 * @param {string} color
 */
function packColor(color) {
  const value = parseInt(color.slice(1), 16);
  return ((value & 255) << 16) | (value & 0xff00) | (value >> 16);
}

/**
 * Copy the numbers out of a buffer, whose start may not be a multiple of their size.
 * @template Numbers
 * @param {DataView} view
 * @param {new (buffer: ArrayBuffer) => Numbers} kind
 */
function readNumbers(view, kind) {
  const copy = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  return new kind(/** @type {ArrayBuffer} */ (copy));
}

/**
 * Store the static outputs in JupyterLab's notebook model: after a reload the page no longer knows which output a
 * display id belongs to. The image is the output before the table. In other front ends this does nothing.
 * @param {NotebookManager | undefined} manager
 * @param {string} name
 * @param {SavedExplorer} saved
 */
function updateSavedOutputs(manager, name, { image, table }) {
  for (const cell of manager?.context?.model?.cells ?? []) {
    const outputs = cell.outputs;
    if (!outputs) continue;
    for (let i = 0; i < outputs.length; i++) {
      const html = outputs.get(i).data?.["text/html"];
      if (typeof html !== "string" || !html.includes(name) || html === table["text/html"]) continue;
      outputs.get(i).setData({ data: table });
      if (i > 0 && outputs.get(i - 1).data?.["image/png"]) outputs.get(i - 1).setData({ data: image });
    }
  }
}

/** @param {{model: Model<ExplorerTraits>, el: HTMLElement}} props */
function render({ model, el }) {
  const name = model.get("saved_class").replace(/[^\w-]/g, "");
  const root = element("section", "explorer");
  root.setAttribute("aria-label", model.get("title"));
  const hide = element("style");
  // The third selector hides the image, the output before the table.
  const child = ".jp-OutputArea-child";
  root.dataset.saved = name;
  const saved = [`.${name}`, `${child}:has(.${name})`, `${child}:has(+ ${child} .${name})`];
  hide.textContent = hidingStyle(root, name, saved);

  const head = element("div", "explorer-bar");
  const colors = element("select", "color");
  const colorLabel = element("label", "", "Color ");
  colorLabel.append(colors);
  const modes = element("div", "modes");
  modes.setAttribute("role", "group");
  modes.setAttribute("aria-label", "What dragging does");
  const modeButtons = Object.fromEntries(
    Object.entries(MODES).map(([mode, words]) => [mode, button(words, `mode-${mode}`, () => setMode(mode))]),
  );
  const topics = model.get("topics");
  const topicsButton = button("Topics", "topics", () => showTopics(!map.topicsShown));
  topicsButton.title = "Show the names of topics";
  topicsButton.hidden = !topics.length;
  modes.append(...Object.values(modeButtons), button("Whole map", "whole", () => map.showAll()));
  head.append(element("strong", "", model.get("title")), colorLabel, topicsButton, modes);

  const question = field("Ask: which rows are nearest to …", "question");
  const ask = button("Highlight", "ask", submit);
  const clearQuestion = button("Clear", "clear-question", () => model.send({ kind: "clear_question" }));
  const search = field("Search the text", "search");
  const questionBar = element("div", "explorer-bar");
  questionBar.append(question, ask, clearQuestion, search);

  const mapElement = element("div", "map");
  const tip = element("div", "tip");
  tip.hidden = true;
  const legend = element("div", "legend");
  legend.setAttribute("role", "group");
  legend.setAttribute("aria-label", "Legend");
  const caption = element("div", "caption");
  const map = new PointMap(mapElement, { selected: select, hovered: hover, cleared: () => send([]), closer: askForParts });
  mapElement.append(tip);
  const gestures = element("div", "gestures");
  const notice = element("div", "notice");
  notice.setAttribute("role", "alert");
  notice.hidden = true;

  const selectionBar = element("div", "explorer-bar");
  const summary = element("span", "what");
  const selectShown = button("Select all shown", "select-shown", () => model.send({ kind: "select_shown" }));
  selectShown.setAttribute("aria-keyshortcuts", "Control+A");
  selectShown.title = "Everything that question, search and legend leave (Ctrl+A)";
  const clear = button("Select nothing", "clear", () => send([]));
  const nameButton = button("Name the selection", "name", () => model.send({ kind: "name" }));
  const groups = element("span", "groups");
  selectionBar.append(summary, selectShown, clear, nameButton, groups);
  const table = element("table", "rows");
  const frame = element("div", "frame");
  frame.append(table);
  const pager = element("div", "explorer-bar");
  const previous = button("Previous", "back", () => changePage(-1));
  const next = button("Next", "next", () => changePage(1));
  const range = element("span", "where");
  pager.append(previous, range, next);
  const status = element("div", "status");
  status.setAttribute("role", "status");
  root.append(hide, head, notice, questionBar, mapElement, gestures, legend, caption, selectionBar, frame, pager, status);
  el.append(root);

  /** @type {{selected: Uint32Array, highlighted: Uint32Array, matching: Uint32Array | null}} */
  let marks = { selected: new Uint32Array(0), highlighted: new Uint32Array(0), matching: null };
  /** @type {Point} */
  let hovered = NO_POINT;
  let hoverTimer = 0;
  let searchTimer = 0;
  let questionWaits = false;

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
    const chosen = new Set(marks.selected);
    // Ctrl+click removes a selected point from the selection.
    if (points.length === 1 && chosen.has(points[0])) chosen.delete(points[0]);
    else for (const point of points) chosen.add(point);
    send(chosen);
  }

  /**
   * @param {Point} point
   * @param {number} x
   * @param {number} y
   */
  function hover(point, x, y) {
    tip.hidden = true;
    hovered = point;
    clearTimeout(hoverTimer);
    if (point === NO_POINT) return markRow(NO_POINT);
    markRow(point);
    tip.style.left = `${Math.min(x + 12, Math.max(0, mapElement.clientWidth - 280))}px`;
    tip.style.top = `${y + 14}px`;
    hoverTimer = setTimeout(() => model.send({ kind: "hover", point }), HOVER_MS);
  }

  function askForParts() {
    if (topics.length && !model.get("parts").length) model.send({ kind: "parts" });
  }

  function showParts() {
    map.parts = model.get("parts");
    map.redraw();
  }

  /** @param {Point} point */
  function markRow(point) {
    for (const line of /** @type {NodeListOf<HTMLElement>} */ (table.querySelectorAll("tbody tr"))) {
      line.dataset.hovered = String(Number(line.dataset.point) === point);
    }
  }

  /** @param {HoveredRow} message */
  function showTip({ point, columns, row }) {
    if (point !== hovered || map.drag) return;
    tip.replaceChildren(
      ...row.cells.map((cell, i) => {
        const line = element("div", "tip-line");
        line.append(element("span", "tip-name", `${columns[i]} `), cell);
        return line;
      }),
    );
    tip.hidden = false;
  }

  function updateLevels() {
    const hidden = new Set(model.get("hidden"));
    const count = map.codes.length;
    const anyMarked = marks.selected.length || marks.highlighted.length || marks.matching;
    const levels = new Uint8Array(count).fill(anyMarked ? DIM : PLAIN);
    for (const point of marks.matching ?? []) if (!marks.selected.length) levels[point] = PLAIN;
    for (const point of marks.selected) levels[point] = PLAIN;
    for (const point of marks.highlighted) levels[point] = EMPHASIZED;
    if (hidden.size) for (let i = 0; i < count; i++) if (hidden.has(map.codes[i])) levels[i] = HIDDEN;
    map.levels = levels;
    const named = topics.map((topic) => `${topic.name} (${formatCount(topic.count)})`).join(", ");
    const said = [`${model.get("title")}: ${model.get("caption")}`, model.get("table").what, named && `Topics: ${named}`];
    map.overlay.setAttribute("aria-label", said.filter(Boolean).join(". "));
    root.dataset.points = String(count);
    map.redraw();
  }

  /**
   * @param {boolean} filtered
   * @param {DataView[]} buffers
   */
  function showMarks(filtered, buffers) {
    const [selected, highlighted, matching] = buffers.map((buffer) => readNumbers(buffer, Uint32Array));
    marks = { selected, highlighted, matching: filtered ? matching : null };
    clear.hidden = !selected.length;
    root.dataset.selected = String(selected.length);
    root.dataset.highlighted = String(highlighted.length);
    updateControls();
    updateLevels();
  }

  function showLegend() {
    const { kind, entries = [], low = "", high = "", hollow = -1 } = model.get("legend");
    const hidden = new Set(model.get("hidden"));
    legend.replaceChildren();
    if (kind === "numbers") {
      const scale = element("span", "scale");
      scale.style.background = `linear-gradient(to right, ${model.get("palette").slice(0, 255).join(", ")})`;
      legend.append(element("span", "", low), scale, element("span", "", high));
    }
    for (const { code, color, name: words, count } of entries) {
      const entry = button(`${words} (${formatCount(count)})`, "entry", () => toggle(code));
      entry.setAttribute("aria-pressed", String(!hidden.has(code)));
      const patch = element("span", "patch");
      if (code === hollow) patch.style.boxShadow = `inset 0 0 0 2px ${color}`;
      else patch.style.background = color;
      entry.prepend(patch);
      legend.append(entry);
    }
    map.colors = model.get("palette").map(packColor);
    map.hollow = hollow;
    updateLevels();
  }

  /** @param {number} code */
  function toggle(code) {
    const hidden = model.get("hidden");
    model.set("hidden", hidden.includes(code) ? hidden.filter((other) => other !== code) : [...hidden, code]);
    model.save_changes();
  }

  function showTable() {
    const { columns = [], rows = [], what: listed = "", total = 0, page = 0, pages = 0 } = model.get("table");
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
        for (const kind of ["mouseenter", "focus"]) row.addEventListener(kind, () => highlightPoint(point));
        for (const kind of ["mouseleave", "blur"]) row.addEventListener(kind, () => highlightPoint(NO_POINT));
        row.addEventListener("click", (event) => select(Uint32Array.of(point), event.ctrlKey || event.metaKey));
        row.addEventListener("keydown", (event) => {
          if (event.key === "Enter") select(Uint32Array.of(point), event.ctrlKey || event.metaKey);
        });
      }
      body.append(row);
    }
    table.replaceChildren(top, body);
    summary.textContent = listed;
    const first = total ? page * 10 + 1 : 0;
    const last = total ? first + rows.length - 1 : 0;
    range.textContent = `${formatCount(first)}–${formatCount(last)} of ${formatCount(total)}`;
    previous.disabled = page <= 0;
    next.disabled = page + 1 >= pages;
  }

  /** @param {Point} point */
  function highlightPoint(point) {
    map.hover = point;
    map.paintOverlay();
  }

  /** @param {number} by */
  function changePage(by) {
    model.set("page", model.get("page") + by);
    model.save_changes();
  }

  function showColors() {
    const options = [new Option("one color", "-1")];
    for (const { number, label } of model.get("columns")) options.push(new Option(label, String(number)));
    colors.replaceChildren(...options);
    colors.value = String(model.get("color"));
  }

  function showGroups() {
    const named = model.get("groups");
    groups.replaceChildren(
      ...named.map(({ name: words, count, facts }, number) => {
        const node = button(`${words} (${formatCount(count)})`, "group", () => model.send({ kind: "group", number }));
        node.title = facts;
        return node;
      }),
    );
    map.labels = named;
    map.redraw();
  }

  function updateControls() {
    const busy = Boolean(model.get("busy"));
    ask.disabled = busy;
    nameButton.disabled = busy || !marks.selected.length || !model.get("searchable");
    search.disabled = !model.get("searchable");
    clearQuestion.hidden = !model.get("question");
    root.setAttribute("aria-busy", String(busy));
    if (root.dataset.lost) return;
    status.textContent = busy ? `${model.get("busy")} …` : model.get("status");
    if (questionWaits && !busy) submit();
  }

  /** @param {string} mode */
  function setMode(mode) {
    map.mode = mode;
    mapElement.dataset.mode = mode;
    gestures.textContent = `${DRAGS[/** @type {keyof typeof DRAGS} */ (mode)]} · ${GESTURES}`;
    for (const [other, node] of Object.entries(modeButtons)) node.setAttribute("aria-pressed", String(other === mode));
  }

  /** @param {boolean} shown */
  function showTopics(shown) {
    map.topics = topics;
    map.topicsShown = shown;
    topicsButton.setAttribute("aria-pressed", String(shown));
    map.redraw();
  }

  /** @param {string} words */
  function showLost(words) {
    root.dataset.lost = "true";
    notice.hidden = false;
    notice.textContent =
      `${words} The map can still be moved and zoomed; run the cell again to select, search, ask and color. What you ` +
      "typed stays here.";
    for (const node of root.querySelectorAll("button, select")) {
      if (!modes.contains(node)) /** @type {HTMLButtonElement | HTMLSelectElement} */ (node).disabled = true;
    }
    status.textContent = "";
  }

  // A question entered while another request runs is sent when that has finished.
  function submit() {
    questionWaits = Boolean(question.value.trim());
    if (!questionWaits || model.get("busy")) return;
    questionWaits = false;
    model.send({ kind: "ask", text: question.value });
  }

  /**
   * @param {ExplorerMessage} message
   * @param {DataView[]} buffers
   */
  function onMessage(message, buffers) {
    if (message.kind === "points") {
      map.points = readNumbers(buffers[0], Uint16Array);
      map.codes = readNumbers(buffers[1], Uint8Array);
      updateLevels();
    } else if (message.kind === "codes") {
      map.codes = readNumbers(buffers[0], Uint8Array);
      updateLevels();
    } else if (message.kind === "marks") showMarks(message.filtered, buffers);
    else if (message.kind === "hovered") showTip(message);
    else if (message.kind === "saved") updateSavedOutputs(/** @type {any} */ (model.widget_manager), name, message);
  }

  root.addEventListener("keydown", (event) => {
    // Keep notebook shortcuts out of the explorer: x would cut the cell.
    if (!((event.ctrlKey || event.metaKey) && event.key === "s")) event.stopPropagation();
    const inTextField = event.target === question || event.target === search;
    if (!inTextField && (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a") {
      event.preventDefault();
      model.send({ kind: "select_shown" });
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
    clearTimeout(searchTimer);
    searchTimer = setTimeout(() => {
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
    updateControls();
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
    "change:busy": updateControls,
    "change:status": updateControls,
    "change:parts": showParts,
    "msg:custom": onMessage,
  };
  for (const [event, handler] of Object.entries(handlers)) model.on(event, handler);
  const manager = /** @type {NotebookManager | undefined} */ (/** @type {any} */ (model.widget_manager));
  const endWatch = watchKernel(model, manager, showLost);
  caption.textContent = model.get("caption");
  setMode("pan");
  showTopics(true);
  showParts();
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
    endWatch();
    for (const [event, handler] of Object.entries(handlers)) model.off(event, handler);
  };
}

export default { render };
