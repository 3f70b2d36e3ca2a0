// The review's script: one row at a time, judged by keyboard. All texts are set as text, never parsed as HTML.

const REVIEW_KEYS = [
  ["1–9", "label"],
  ["0", "no label"],
  ["U", "undo"],
  ["N", "note"],
  ["← →", "back, forth"],
  ["J", "next unjudged"],
];

/**
 * What a key means: the number of a label, -1 to take it away, a word for what else it does, or null.
 * @param {Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey">} event
 * @param {number} labels
 * @returns {number | "undo" | "note" | "back" | "forth" | "next" | null}
 */
function reviewAction(event, labels) {
  if (event.altKey) return null;
  const key = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) return key === "z" ? "undo" : null;
  if (/^[1-9]$/.test(key)) return Number(key) <= labels ? Number(key) - 1 : null;
  /** @type {Record<string, -1 | "undo" | "note" | "back" | "forth" | "next">} */
  const actions = {
    0: -1, u: "undo", backspace: "undo", n: "note", arrowleft: "back", arrowright: "forth", j: "next",
  };
  return actions[key] ?? null;
}

/** @param {{ model: Model<ReviewTraits>, el: HTMLElement }} context */
function render({ model, el }) {
  const root = element("div", "review");
  root.tabIndex = 0;
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", model.get("title"));
  root.dataset.saved = model.get("saved_class");
  root.dataset.lmSuppressShortcuts = "true";
  const hide = element("style");
  const hidden = () => {
    hide.textContent = hidingStyle(root, model.get("saved_class"), [`.${model.get("saved_class")}`]);
  };

  const head = element("div", "review-bar");
  const who = element("label", "", "Annotator ");
  const annotator = element("select", "annotator");
  for (const name of model.get("annotators")) annotator.append(new Option(name, name));
  who.append(annotator);
  who.hidden = model.get("annotators").length < 2;
  const count = element("span", "count");
  head.append(element("strong", "", model.get("title")), who, count);
  const bar = element("progress", "review-progress");
  bar.setAttribute("aria-label", "Rows judged");
  const caption = element("div", "caption", model.get("caption"));

  const row = element("div", "review-row");
  row.tabIndex = 0;
  row.setAttribute("aria-live", "polite");
  const where = element("div", "review-where");
  const texts = element("div", "review-texts");
  row.append(where, texts);

  const choices = element("div", "choices");
  choices.setAttribute("role", "group");
  choices.setAttribute("aria-label", "Labels");
  const buttons = model.get("labels").map((label, number) => {
    // The second click of two would judge the next row.
    const chosen = button("", "choice", (event) => event.detail > 1 || judge(number));
    if (number < 9) {
      const key = element("kbd", "", String(number + 1));
      key.setAttribute("aria-hidden", "true");
      chosen.append(key, " ");
      chosen.setAttribute("aria-keyshortcuts", String(number + 1));
    }
    chosen.append(element("span", "", label));
    choices.append(chosen);
    return chosen;
  });
  const said = element("div", "model-label");

  const noteLabel = element("label", "note-label", "Note ");
  const note = element("textarea", "note");
  note.rows = 1;
  note.placeholder = "Why, or what is unclear. Enter stores it.";
  noteLabel.append(note);

  const tools = element("div", "review-bar");
  const undo = button("Undo", "undo", () => send({ kind: "undo" }));
  const back = button("Back", "back", () => go(-1));
  const forth = button("Forth", "forth", () => go(1));
  const next = button("Next unjudged", "next", () => send({ kind: "next" }));
  const keys = element("span", "review-keys");
  for (const [key, does] of REVIEW_KEYS) {
    const hint = element("span", "review-key");
    hint.append(element("kbd", "", key), ` ${does}`);
    keys.append(hint);
  }
  tools.append(undo, back, forth, next, keys);
  const status = element("div", "status");
  status.setAttribute("role", "status");
  const lost = element("div", "notice");
  lost.hidden = true;
  lost.setAttribute("role", "alert");
  root.append(hide, head, bar, caption, row, choices, said, noteLabel, tools, status, lost);
  el.append(root);
  hidden();

  // A key that is pressed twice must not judge a row that was not seen yet.
  let unanswered = 0;
  let askedOf = -1;
  const waiting = () => unanswered > 0 && askedOf === model.get("shown").row;
  /** @param {object} message */
  const send = (message) => {
    if (waiting() || !lost.hidden) return;
    unanswered += 1;
    askedOf = model.get("shown").row;
    model.send({ row: askedOf, ...message });
  };
  /** @param {number} label */
  const judge = (label) => {
    if (!waiting()) storeNote();
    send({ kind: "judge", label });
  };
  /** @param {number} by */
  const go = (by) => {
    if (!waiting()) storeNote();
    send({ kind: "go", by });
  };
  const storeNote = () => {
    const shown = model.get("shown");
    if (note.value === shown.note || note.dataset.row !== String(shown.row)) return;
    model.send({ kind: "note", row: shown.row, text: note.value });
  };

  const show = () => {
    const shown = model.get("shown");
    where.textContent = `Row ${shown.row + 1} of ${model.get("total")} · ${shown.name}`;
    const [first, ...others] = shown.fields;
    const large = element("div", "review-text", first?.text ?? "");
    large.dir = "auto";
    const facts = element("dl", "review-facts");
    for (const { name, text } of others) {
      const value = element("dd", "", text);
      value.dir = "auto";
      facts.append(element("dt", "", name), value);
    }
    facts.hidden = !others.length;
    texts.replaceChildren(large, facts);
    buttons.forEach((each, number) => each.setAttribute("aria-pressed", String(shown.label === number)));
    said.textContent = shown.model === undefined ? "" : `The model said: ${shown.model}`;
    said.hidden = shown.model === undefined;
    if (note.dataset.row !== String(shown.row) || document.activeElement !== note) note.value = shown.note;
    note.dataset.row = String(shown.row);
    back.disabled = shown.row === 0;
    forth.disabled = shown.row === model.get("total") - 1;
    root.dataset.row = String(shown.row);
  };
  const showProgress = () => {
    const [judged, total] = [model.get("judged"), model.get("total")];
    bar.max = total;
    bar.value = judged;
    count.textContent = judged === total ? `All ${total} judged` : `${judged} of ${total} judged`;
    root.dataset.judged = String(judged);
    undo.disabled = !model.get("can_undo");
    annotator.value = model.get("annotator");
  };
  const showStatus = () => {
    status.textContent = model.get("status");
  };

  root.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "s") return;
    // Keep notebook shortcuts out: 1 would make the cell a heading.
    event.stopPropagation();
    if (event.target === note) {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        storeNote();
        root.focus();
      } else if (event.key === "Escape") {
        note.value = model.get("shown").note;
        root.focus();
      }
      return;
    }
    if (event.target === annotator || event.repeat) return;
    const action = reviewAction(event, buttons.length);
    if (action === null) return;
    event.preventDefault();
    if (typeof action === "number") judge(action);
    else if (action === "note") note.focus();
    else if (action === "undo") send({ kind: "undo" });
    else if (action === "next") send({ kind: "next" });
    else go(action === "back" ? -1 : 1);
  });
  note.addEventListener("blur", storeNote);
  annotator.addEventListener("change", () => send({ kind: "annotator", name: annotator.value }));

  /** @type {Record<string, (...values: any[]) => void>} */
  const handlers = {
    "change:shown": show,
    "change:judged": showProgress,
    "change:can_undo": showProgress,
    "change:annotator": showProgress,
    "change:status": showStatus,
    "msg:custom": () => {
      unanswered = Math.max(0, unanswered - 1);
    },
  };
  for (const [event, handler] of Object.entries(handlers)) model.on(event, handler);
  const manager = /** @type {NotebookManager | undefined} */ (/** @type {any} */ (model.widget_manager));
  const unwatch = watchKernel(model, manager, (words) => {
    lost.textContent = `${words} All that was judged is in ${model.get("file")}. Run the cell again to go on.`;
    lost.hidden = false;
    for (const each of root.querySelectorAll("button, textarea, select")) each.toggleAttribute("disabled", true);
  });
  show();
  showProgress();
  showStatus();
  return () => {
    unwatch();
    for (const [event, handler] of Object.entries(handlers)) model.off(event, handler);
  };
}

export default { render };
