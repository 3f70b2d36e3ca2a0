// The chat panel's script: the controls around the turns, and what travels between page and kernel.

const HINTS = [["Enter", "sends"], ["Shift+Enter", "new line"]];
const BUSY_HINTS = [["Esc", "stops"]];
const GREETING = "Attach… adds a variable of the notebook or an image to a question; an image can be pasted too.";
const PATIENCE_MS = 10000;
const TYPESET_MS = 50;
const NEAR_PX = 40;
const GO_ON = "Run the cell again to go on; what you typed is kept.";

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

/**
 * What was typed and not sent, kept by the tab for the panel that takes the place of one whose kernel was lost.
 * @param {string} key
 */
function draftOf(key) {
  /** @template Value @param {(storage: Storage) => Value} use */
  const use = (use) => {
    try {
      return use(sessionStorage);
    } catch {
      return null; // The browser may not allow storage.
    }
  };
  return {
    take: () =>
      use((storage) => {
        const text = storage.getItem(key);
        storage.removeItem(key);
        return text;
      }) ?? "",
    /** @param {string} text */
    keep: (text) => use((storage) => storage.setItem(key, text)),
  };
}

/**
 * What names the keys that do something now.
 * @param {boolean} busy Whether an answer is in progress.
 */
function keyHints(busy) {
  return (busy ? BUSY_HINTS : HINTS).map(([keys, does]) => {
    const hint = element("span", "hint");
    hint.append(...keys.split("+").flatMap((key, i) => [i ? "+" : "", element("kbd", "", key)]), ` ${does}`);
    return hint;
  });
}

/**
 * The controls that attach a variable or an image.
 * @param {(message: object, buffers?: ArrayBuffer[]) => void} send
 */
function attachControls(send) {
  const row = element("div", "attach");
  row.hidden = true;
  const variable = element("input", "variable");
  variable.placeholder = "Name of a variable";
  variable.setAttribute("aria-label", "Name of a variable to attach");
  for (const [name, value] of [["autocomplete", "off"], ["spellcheck", "false"]]) variable.setAttribute(name, value);
  const names = element("datalist");
  names.id = `skytells-variables-${Math.random().toString(36).slice(2)}`;
  variable.setAttribute("list", names.id);
  const add = () => {
    if (variable.value.trim()) send({ kind: "attach", name: variable.value.trim() });
    variable.value = "";
    variable.focus();
  };
  variable.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) add();
  });
  const file = element("input");
  file.type = "file";
  file.accept = "image/png,image/jpeg,image/gif,image/webp";
  file.multiple = true;
  file.hidden = true;
  /** @param {Iterable<File>} files */
  const addImages = async (files) => {
    for (const image of files) send({ kind: "attach", name: image.name }, [await image.arrayBuffer()]);
  };
  file.addEventListener("change", async () => {
    await addImages([...(file.files ?? [])]);
    file.value = "";
  });
  const image = button("Image file…", "image", () => file.click());
  row.append(variable, names, button("Attach variable", "attach-variable", add), image, file);
  const toggle = button("Attach…", "attach-open", () => {
    row.hidden = !row.hidden;
    toggle.setAttribute("aria-expanded", String(!row.hidden));
    if (row.hidden) return;
    send({ kind: "variables" });
    variable.focus();
  });
  toggle.setAttribute("aria-expanded", "false");
  /** @param {string[]} known */
  const showNames = (known) => names.replaceChildren(...known.map((name) => new Option(name, name)));
  return { row, toggle, addImages, showNames };
}

/** @param {{model: Model<PanelTraits>, el: HTMLElement}} props */
function render({ model, el }) {
  const manager = /** @type {NotebookManager | undefined} */ (/** @type {any} */ (model.widget_manager));
  const name = model.get("saved_class").replace(/[^\w-]/g, "");
  const root = element("section", "panel");
  root.setAttribute("aria-label", model.get("title"));
  const hide = element("style");
  root.dataset.saved = name;
  const child = ".jp-OutputArea-child";
  hide.textContent = hidingStyle(root, name, [`.${name}`, `${child}:has(.${name})`]);

  const models = element("select", "models");
  const modelLabel = element("label", "field");
  modelLabel.append(element("span", "unseen", "Model"), models);
  const system = element("textarea", "system");
  system.rows = 2;
  system.placeholder = "For example: answer briefly, in English.";
  const systemDetails = element("details", "details");
  const systemLabel = element("label", "field", "Sent before every question");
  systemLabel.append(system);
  const systemSummary = element("summary", "system-summary");
  systemDetails.append(systemSummary, systemLabel);
  const bar = element("div", "bar");
  const title = element("strong", "title");
  const newChat = button("New chat", "new", () => request({ kind: "new" }));
  const controls = element("div", "tools");
  controls.append(modelLabel, newChat);
  bar.append(title, controls);

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

  const greeting = element("div", "greeting", GREETING);
  const notice = element("div", "notice");
  notice.setAttribute("role", "alert");
  const chips = element("div", "chips");
  const input = element("textarea", "input");
  input.rows = 2;
  input.placeholder = "Ask a question";
  input.setAttribute("aria-label", "Message");
  const send = button("Send", "send", submit);
  const stop = button("Stop", "stop", stopAnswer);
  const attach = attachControls(request);
  const composerRow = element("div", "composer-row");
  composerRow.append(attach.toggle, send, stop);
  const composer = element("div", "composer");
  composer.append(chips, input, attach.row, composerRow);
  const status = element("div", "status");
  status.setAttribute("role", "status");
  const below = element("div", "below");
  const hints = element("div", "hints");
  below.append(hints, status);

  root.append(hide, bar, systemDetails, log, greeting, notice, composer, below);
  el.append(root);

  /** @type {string[]} */
  const keys = [];
  /** @type {Map<string, HTMLElement>} */
  const parts = new Map();
  /** @type {string | null} */
  let pending = null;
  /** @type {string | null} */
  let sentText = null;
  /** @type {string | undefined} */
  let newCellId;
  let lostWith = "";
  let typesetWhileGrowing = true;
  let patience = 0;
  let end = 0;
  const draft = draftOf(`skytells-draft ${location.pathname} ${manager?.context?.path ?? ""} ${name}`);

  /** @param {string} [text] */
  function setStatus(text) {
    status.textContent = text || model.get("totals");
  }

  function showSendable() {
    send.setAttribute("aria-disabled", String(!input.value.trim()));
  }

  /** @param {string} text */
  function setInput(text) {
    input.value = text;
    showSendable();
  }

  function showNotice() {
    notice.textContent = lostWith ? `${lostWith} ${GO_ON}` : model.get("notice");
    notice.hidden = !notice.textContent;
  }

  function atEnd() {
    const there = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_PX;
    if (there) end = log.scrollTop;
    return there;
  }

  function scrollToEnd() {
    log.scrollTop = log.scrollHeight;
    end = log.scrollTop;
  }

  /**
   * Follow the end of the conversation, or stay where a reader has scrolled to.
   * @param {() => void} change
   */
  function keepScrolledToEnd(change) {
    const { scrollTop } = log;
    const follows = atEnd();
    change();
    if (follows) scrollToEnd();
    else log.scrollTop = scrollTop;
  }

  /** @param {HTMLElement} node */
  async function typesetInLog(node) {
    const follows = atEnd();
    await typeset(manager, node);
    // In the meantime a reader may have scrolled up.
    if (follows && log.scrollTop > end - NEAR_PX) scrollToEnd();
  }

  /** @type {TurnActions} */
  const actions = {
    retry: () => {
      request({ kind: "retry" });
      input.focus();
    },
    edit: (turn, text) => {
      pending = text;
      request({ kind: "edit", turn, text });
      input.focus();
    },
    newCell: putIntoNewCell,
  };

  function showTurns() {
    const turns = model.get("turns");
    keepScrolledToEnd(() => {
      turns.forEach((turn, i) => {
        const key = JSON.stringify(turn);
        if (keys[i] === key) return;
        // The whole answer takes the place of the growing one.
        const grown = live.parentNode === log && !model.get("busy") && i === turns.length - 1 && turn.role === "assistant";
        const node = turnElement(turn, i + 1, actions, grown ? liveParts : undefined);
        if (i < keys.length) log.children[i].replaceWith(node);
        else if (grown) live.replaceWith(node);
        else log.insertBefore(node, live.parentNode === log ? live : null);
        keys[i] = key;
        const answer = /** @type {HTMLElement | null} */ (node.querySelector(".skytells-answer"));
        if (answer) void typesetInLog(answer);
      });
      while (keys.length > turns.length) log.children[keys.length - 1].remove(), keys.pop();
    });
    root.dataset.empty = String(turns.length === 0);
    updateControls();
  }

  function updateControls() {
    const busy = model.get("busy");
    const turns = model.get("turns");
    const unable = busy || Boolean(lostWith);
    newChat.hidden = !turns.length;
    for (const control of [newChat, models, system, attach.toggle]) control.disabled = Boolean(lostWith);
    send.disabled = Boolean(lostWith);
    const again = /** @type {NodeListOf<HTMLButtonElement>} */ (log.querySelectorAll(".skytells-retry"));
    again.forEach((node, i) => (node.hidden = unable || i < again.length - 1 || turns.at(-1)?.role !== "assistant"));
    const edits = /** @type {NodeListOf<HTMLButtonElement>} */ (log.querySelectorAll(".skytells-edit"));
    for (const node of edits) node.hidden = unable;
  }

  function showBusy() {
    const busy = model.get("busy");
    log.setAttribute("aria-busy", String(busy));
    const stopHadFocus = document.activeElement === stop;
    send.hidden = busy;
    stop.hidden = !busy;
    hints.replaceChildren(...keyHints(busy));
    typesetWhileGrowing = true;
    keepScrolledToEnd(() => {
      parts.clear();
      liveParts.replaceChildren();
      liveName.textContent = `${model.get("model")} is answering`;
      if (busy) log.append(live);
      else live.remove();
    });
    if (stopHadFocus) input.focus();
    if (!busy) restoreQuestion();
    updateControls();
    setStatus();
  }

  // Put a question that failed back into the input, to be changed or sent again.
  function restoreQuestion() {
    const last = model.get("turns").at(-1);
    const failed = model.get("notice") || (last?.problem && !last.text);
    if (sentText !== null && failed && !input.value) setInput(sentText);
    sentText = null;
  }

  function showModels() {
    models.replaceChildren(...model.get("models").map((text) => new Option(text, text)));
    models.value = model.get("model");
  }

  function showSystem() {
    const text = model.get("system");
    if (document.activeElement !== system) system.value = text;
    systemSummary.textContent = text ? `System text: ${text}` : "System text";
  }

  function showTitle() {
    title.textContent = model.get("title");
  }

  function showAttachments() {
    const attached = model.get("attachments");
    chips.hidden = !attached.length;
    chips.replaceChildren(
      ...attached.map(({ name: what, kind }) => {
        const chip = element("span", "chip", `${what} (${kind}) `);
        const remove = button("×", "detach", () => request({ kind: "detach", name: what }));
        remove.setAttribute("aria-label", `Remove ${what}`);
        chip.append(remove);
        return chip;
      }),
    );
  }

  /**
   * @param {object} message
   * @param {ArrayBuffer[]} [buffers]
   */
  function request(message, buffers = []) {
    if (lostWith) return setStatus(GO_ON);
    clearTimeout(patience);
    patience = setTimeout(() => {
      setStatus(`The kernel has not answered yet. If it is not running a cell, it no longer knows this panel. ${GO_ON}`);
    }, PATIENCE_MS);
    model.send(message, undefined, buffers);
  }

  function submit() {
    const text = input.value;
    input.focus();
    if (lostWith) return showLost(lostWith);
    if (!text.trim()) return;
    if (model.get("busy")) return setStatus("An answer is in progress; Escape stops it.");
    pending = text;
    setStatus("Sent; waiting for the kernel, which finishes a running cell first.");
    request({ kind: "send", text });
  }

  function stopAnswer() {
    if (!model.get("busy") || lostWith) return;
    setStatus("Stopping.");
    model.send({ kind: "stop" });
    input.focus();
  }

  /** @param {string} code */
  async function putIntoNewCell(code) {
    const made = insertCell(manager, name, code, newCellId);
    if (made !== null) {
      newCellId = made;
      setStatus("Put into a new cell below. It is not run.");
      requestAnimationFrame(() => root.closest(".jp-Cell")?.nextElementSibling?.scrollIntoView({ block: "nearest" }));
      return;
    }
    await copy(code).catch(() => {});
    request({ kind: "cell", text: code });
  }

  /** @param {string} words */
  function showLost(words) {
    lostWith = words;
    clearTimeout(patience);
    root.dataset.lost = "true";
    if (pending !== null && !input.value) setInput(pending);
    pending = null;
    draft.keep(input.value);
    log.setAttribute("aria-busy", "false");
    liveName.textContent = `${model.get("model")} was answering`;
    send.hidden = false;
    stop.hidden = true;
    hints.replaceChildren(...keyHints(false));
    showNotice();
    updateControls();
    setStatus();
  }

  /**
   * @param {string} id
   * @param {string} html
   */
  async function showPart(id, html) {
    const part = parts.get(id) ?? element("div");
    keepScrolledToEnd(() => {
      if (!parts.has(id)) {
        parts.set(id, part);
        liveParts.append(part);
      }
      setHtml(part, html);
    });
    if (!typesetWhileGrowing) return;
    const began = performance.now();
    await typesetInLog(part);
    // Formulas that take long are typeset once, when the answer is complete.
    typesetWhileGrowing = performance.now() - began < TYPESET_MS;
  }

  /** @param {PanelMessage} message */
  function onMessage(message) {
    if (message.kind !== "part" && message.kind !== "saved") clearTimeout(patience);
    if (message.kind === "part") void showPart(message.id, message.html);
    else if (message.kind === "accepted") {
      if (pending !== null && input.value === pending) setInput("");
      if (pending !== null) sentText = pending;
      pending = null;
      setStatus();
    } else if (message.kind === "refused") {
      setStatus(message.why);
      pending = null;
    } else if (message.kind === "variables") attach.showNames(message.names);
    else if (message.kind === "cell") setStatus(message.note);
    else if (message.kind === "saved") updateSavedOutput(manager, name, message.data);
  }

  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    }
  });
  input.addEventListener("input", () => {
    showSendable();
    if (lostWith) draft.keep(input.value);
  });
  for (const kind of /** @type {const} */ (["paste", "drop"])) {
    input.addEventListener(kind, (event) => {
      const data = event instanceof DragEvent ? event.dataTransfer : event.clipboardData;
      const images = [...(data?.files ?? [])].filter((file) => file.type.startsWith("image/"));
      if (!images.length) return;
      event.preventDefault();
      void attach.addImages(images);
    });
  }
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
    "change:notice": showNotice,
    "change:attachments": showAttachments,
    "change:models": showModels,
    "change:model": showModels,
    "change:system": showSystem,
    "change:title": showTitle,
    "change:totals": () => setStatus(),
    "msg:custom": onMessage,
  };
  for (const [event, handler] of Object.entries(handlers)) model.on(event, handler);
  const endWatch = watchKernel(model, manager, showLost);
  showTitle();
  showModels();
  showSystem();
  showTurns();
  showBusy();
  showNotice();
  showAttachments();
  setInput(input.value || draft.take());
  // The log has no layout before the next frame.
  requestAnimationFrame(scrollToEnd);
  return () => {
    clearTimeout(patience);
    endWatch();
    for (const [event, handler] of Object.entries(handlers)) model.off(event, handler);
  };
}

export default { render };
