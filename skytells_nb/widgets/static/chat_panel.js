// The chat panel's script. It never parses model text: the kernel sends sanitized HTML, and everything else is set as
// text.

const COPIED_MS = 1500;

/**
 * Set HTML that the kernel has sanitized. Links open a new tab, so that they do not replace the notebook's page.
 * @param {HTMLElement} node
 * @param {string} html
 */
function setHtml(node, html) {
  node.innerHTML = html;
  for (const link of node.querySelectorAll("a")) link.target = "_blank";
}

/** @param {string} text */
async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  // Pages without TLS cannot use the clipboard API.
  const field = element("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (!done) throw new Error("the browser did not allow copying");
}

/**
 * @param {string} text
 * @param {string} label
 */
function copyButton(text, label) {
  const node = button("Copy", "copy", async () => {
    const copied = await copy(text).then(() => true, () => false);
    node.textContent = copied ? "Copied" : "Copying failed";
    node.focus();
    setTimeout(() => (node.textContent = "Copy"), COPIED_MS);
  });
  node.setAttribute("aria-label", label);
  return node;
}

/**
 * Add a button to each block of code of an answer.
 * @param {HTMLElement} answer
 */
function addCopyButtons(answer) {
  for (const block of answer.querySelectorAll("fieldset")) {
    const code = block.querySelector("pre")?.textContent ?? "";
    const language = block.querySelector("legend")?.textContent;
    block.append(copyButton(code, language ? `Copy the ${language} code` : "Copy the code"));
  }
}

/** @param {Turn} turn */
function turnElement(turn) {
  const node = element("article", "turn");
  node.dataset.role = turn.role;
  node.setAttribute("aria-label", turn.who);
  const head = element("div", "head");
  head.append(element("strong", "who", turn.who));
  const whose = turn.role === "user" ? "Copy your message" : `Copy the answer of ${turn.who}`;
  if (turn.text) head.append(copyButton(turn.text, whose));
  node.append(head);
  if (turn.role === "user") {
    node.append(element("div", "words", turn.text));
  } else if (turn.html) {
    const answer = element("div", "answer");
    setHtml(answer, turn.html);
    addCopyButtons(answer);
    node.append(answer);
  }
  if (turn.problem) {
    const block = element("div", "problem");
    block.append(element("strong", "", turn.problem.name), element("p", "", turn.problem.message));
    if (turn.problem.advice) block.append(element("p", "", turn.problem.advice));
    node.append(block);
  }
  const foot = element("div", "foot");
  if (turn.ending) foot.append(element("span", "ending", turn.ending));
  if (turn.facts) foot.append(element("span", "facts", turn.facts));
  if (turn.badge.text) {
    const badge = element("span", "badge", turn.badge.text);
    badge.dataset.kind = turn.badge.kind;
    foot.append(badge);
  }
  if (foot.childElementCount) node.append(foot);
  return node;
}

/**
 * Store the transcript in JupyterLab's notebook model: after a reload the page no longer knows which output a display
 * id belongs to. In other front ends, and when nothing changed, this does nothing.
 * @param {NotebookManager | undefined} manager
 * @param {string} name
 * @param {MimeBundle} data
 */
function updateSavedOutput(manager, name, data) {
  const cells = manager?.context?.model?.cells;
  if (!cells) return;
  for (const cell of cells) {
    const outputs = cell.outputs;
    if (!outputs) continue;
    for (let i = 0; i < outputs.length; i++) {
      const output = outputs.get(i);
      const html = output.data?.["text/html"];
      if (typeof html === "string" && html.includes(name) && html !== data["text/html"]) output.setData({ data });
    }
  }
}

/** @param {{model: Model<PanelTraits>, el: HTMLElement}} props */
function render({ model, el }) {
  const name = model.get("saved_class").replace(/[^\w-]/g, "");
  const root = element("section", "panel");
  root.setAttribute("aria-label", model.get("title"));
  const hide = element("style");
  root.dataset.saved = name;
  const child = ".jp-OutputArea-child";
  hide.textContent = hidingStyle(root, name, [`.${name}`, `${child}:has(.${name})`]);

  const models = element("select", "models");
  const modelLabel = element("label", "field", "Model ");
  modelLabel.append(models);
  const system = element("textarea", "system");
  system.rows = 2;
  const systemDetails = element("details", "details");
  const systemLabel = element("label", "field", "Sent before every question");
  systemLabel.append(system);
  systemDetails.append(element("summary", "", "System text"), systemLabel);
  const bar = element("div", "bar");
  const title = element("strong", "title");
  bar.append(title, modelLabel);

  const log = element("div", "log");
  log.setAttribute("role", "log");
  log.setAttribute("aria-live", "polite");
  log.setAttribute("aria-label", "Conversation");
  log.tabIndex = 0;
  const live = element("article", "turn");
  live.dataset.role = "assistant";
  const liveName = element("strong", "who");
  const liveParts = element("div", "answer");
  live.append(liveName, liveParts);

  const input = element("textarea", "input");
  input.rows = 2;
  input.placeholder = "Enter sends, Shift+Enter starts a new line, Escape stops";
  input.setAttribute("aria-label", "Message");
  const send = button("Send", "send", submit);
  const stop = button("Stop", "stop", stopAnswer);
  const composer = element("div", "composer");
  composer.append(input, send, stop);
  const status = element("div", "status");
  status.setAttribute("role", "status");

  root.append(hide, bar, systemDetails, log, composer, status);
  el.append(root);

  /** @type {string[]} */
  const keys = [];
  /** @type {Map<string, HTMLElement>} */
  const parts = new Map();
  /** @type {string | null} */
  let pending = null;
  /** @type {string | null} */
  let sentText = null;

  /** @param {string} [text] */
  function setStatus(text) {
    status.textContent = text || model.get("totals");
  }

  /** @param {() => void} change */
  function keepScrolledToEnd(change) {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    change();
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  function showTurns() {
    const turns = model.get("turns");
    keepScrolledToEnd(() => {
      turns.forEach((turn, i) => {
        const key = JSON.stringify(turn);
        if (keys[i] === key) return;
        const node = turnElement(turn);
        if (i < keys.length) log.children[i].replaceWith(node);
        else log.insertBefore(node, live.parentNode === log ? live : null);
        keys[i] = key;
      });
      while (keys.length > turns.length) log.children[keys.length - 1].remove(), keys.pop();
    });
    root.dataset.empty = String(turns.length === 0);
  }

  function showBusy() {
    const busy = model.get("busy");
    log.setAttribute("aria-busy", String(busy));
    const stopHadFocus = document.activeElement === stop;
    send.hidden = busy;
    stop.hidden = !busy;
    keepScrolledToEnd(() => {
      parts.clear();
      liveParts.replaceChildren();
      liveName.textContent = `${model.get("model")} is answering`;
      if (busy) log.append(live);
      else live.remove();
    });
    if (stopHadFocus) input.focus();
    if (!busy) restoreQuestion();
    setStatus();
  }

  // Put a question that failed back into the input, to be changed or sent again.
  function restoreQuestion() {
    const last = model.get("turns").at(-1);
    if (sentText !== null && last?.problem && !last.text && !input.value) input.value = sentText;
    sentText = null;
  }

  function showModels() {
    models.replaceChildren(...model.get("models").map((text) => new Option(text, text)));
    models.value = model.get("model");
  }

  function showSystem() {
    if (document.activeElement !== system) system.value = model.get("system");
    if (model.get("system")) systemDetails.open = true;
  }

  function showTitle() {
    title.textContent = model.get("title");
  }

  function submit() {
    const text = input.value;
    input.focus();
    if (!text.trim()) return;
    if (model.get("busy")) return setStatus("An answer is in progress; Escape stops it.");
    pending = text;
    setStatus("Sent; waiting for the kernel, which finishes a running cell first.");
    model.send({ kind: "send", text });
  }

  function stopAnswer() {
    if (!model.get("busy")) return;
    setStatus("Stopping.");
    model.send({ kind: "stop" });
    input.focus();
  }

  /** @param {PanelMessage} message */
  function onMessage(message) {
    if (message.kind === "part") {
      keepScrolledToEnd(() => {
        const part = parts.get(message.id) ?? element("div");
        if (!parts.has(message.id)) {
          parts.set(message.id, part);
          liveParts.append(part);
        }
        setHtml(part, message.html);
      });
    } else if (message.kind === "accepted") {
      if (pending !== null && input.value === pending) input.value = "";
      sentText = pending;
      pending = null;
      setStatus();
    } else if (message.kind === "refused") {
      if (pending !== null) setStatus(message.why);
      pending = null;
    } else if (message.kind === "saved") {
      updateSavedOutput(/** @type {any} */ (model.widget_manager), name, message.data);
    }
  }

  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });
  root.addEventListener("keydown", (event) => {
    // Keep notebook shortcuts out of the panel: x would cut the cell, and JupyterLab intercepts line breaks in text fields.
    if (!((event.ctrlKey || event.metaKey) && event.key === "s")) event.stopPropagation();
    if (event.key === "Escape") {
      event.preventDefault();
      stopAnswer();
    }
  });
  models.addEventListener("change", () => {
    model.set("model", models.value);
    model.save_changes();
  });
  system.addEventListener("change", () => {
    model.set("system", system.value);
    model.save_changes();
  });

  /** @type {Record<string, (...values: any[]) => void>} */
  const handlers = {
    "change:turns": showTurns,
    "change:busy": showBusy,
    "change:models": showModels,
    "change:model": showModels,
    "change:system": showSystem,
    "change:title": showTitle,
    "change:totals": () => setStatus(),
    "msg:custom": onMessage,
  };
  for (const [event, handler] of Object.entries(handlers)) model.on(event, handler);
  showTitle();
  showModels();
  showSystem();
  showTurns();
  showBusy();
  // The log has no layout before the next frame.
  requestAnimationFrame(() => (log.scrollTop = log.scrollHeight));
  return () => {
    for (const [event, handler] of Object.entries(handlers)) model.off(event, handler);
  };
}

export default { render };
