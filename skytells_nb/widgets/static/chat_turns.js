// The turns of a conversation on a page. Model text is never parsed here: the kernel sends sanitized HTML, and everything
// else is set as text.

const COPIED_MS = 1500;
const FORMULA = /\$|\\[([]|\\begin\{/;
const TASK = /^\s*[\u2610\u2611]/;
const SHELLS = ["bash", "sh", "shell", "zsh"];

/**
 * Set HTML that the kernel has sanitized. Links open a new tab, so that they do not replace the notebook's page, and what
 * a reader has unfolded stays so.
 * @param {HTMLElement} node
 * @param {string} html
 * @param {HTMLElement} [before] What shows the text so far.
 */
function setHtml(node, html, before = node) {
  const open = [...before.querySelectorAll("details")].map((folded) => folded.open);
  node.innerHTML = html;
  node.querySelectorAll("details").forEach((folded, i) => (folded.open = open[i] ?? false));
  for (const link of node.querySelectorAll("a")) link.target = "_blank";
  for (const item of node.querySelectorAll("li")) item.classList.toggle("skytells-task", TASK.test(item.textContent ?? ""));
}

/**
 * Typeset the formulas of an element of the page, where the front end has a typesetter.
 * @param {NotebookManager | undefined} manager
 * @param {HTMLElement} node
 */
async function typeset(manager, node) {
  if (!FORMULA.test(node.textContent ?? "")) return;
  const typesetter = manager?.rendermime?.latexTypesetter;
  try {
    if (typesetter) await typesetter.typeset(node);
    else await /** @type {any} */ (window).MathJax?.typesetPromise?.([node]);
  } catch (problem) {
    // A formula that cannot be typeset stays as it is written.
    console.warn(problem);
  }
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
    show(copied ? "Copied" : "Copying failed");
    node.focus();
    setTimeout(() => show("Copy"), COPIED_MS);
  });
  /** @param {string} words The name of a button has to have its visible words. */
  const show = (words) => {
    node.textContent = words;
    node.setAttribute("aria-label", label.startsWith(words) ? label : `${words}. ${label}`);
  };
  show("Copy");
  return node;
}

/**
 * The code of a block as the source of a cell: commands of a shell get the magic that runs them.
 * @param {string} code
 * @param {string} language
 */
function cellSource(code, language) {
  const source = code.replace(/\s+$/, "");
  return SHELLS.includes(language.toLowerCase()) && !/^\s*[%!]/.test(source) ? `%%bash\n${source}` : source;
}

/**
 * Add buttons to each block of code of an answer.
 * @param {HTMLElement} answer
 * @param {(code: string) => void} newCell
 */
function addCodeButtons(answer, newCell) {
  for (const block of answer.querySelectorAll(".highlight.alert")) {
    const pre = block.querySelector("pre");
    const code = pre?.textContent ?? "";
    const language = block.querySelector("div > small")?.textContent ?? "";
    const what = language ? `the ${language} code` : "the code";
    const cell = button("Into a new cell", "to-cell", () => newCell(cellSource(code, language)));
    cell.setAttribute("aria-label", `Into a new cell: ${what}`);
    const head = element("div", language ? "code-head" : "code-head skytells-bare", language);
    const buttons = element("div", "tools");
    buttons.append(copyButton(code, `Copy ${what}`), cell);
    head.append(buttons);
    if (block.firstElementChild !== pre) block.firstElementChild?.remove(); // The head names the language; edges fade.
    block.prepend(head);
    if (pre) pre.tabIndex = 0; // A long line is scrolled by keyboard too.
  }
}

/**
 * Put code into a new cell of JupyterLab's notebook, below the cell with this output or the last such new cell.
 * @param {NotebookManager | undefined} manager
 * @param {string} name The class of the output.
 * @param {string} source
 * @param {string | undefined} after The id of the last such new cell.
 * @returns {string | null} The id of the new cell; null where the page has no notebook to put it into.
 */
function insertCell(manager, name, source, after) {
  const model = manager?.context?.model;
  if (!model?.cells || !model.sharedModel?.insertCell) return null;
  const cells = [...model.cells];
  let at = after === undefined ? -1 : cells.findIndex((cell) => cell.id === after);
  if (at < 0) at = cells.findIndex((cell) => hasOutput(cell, name));
  if (at < 0) return null;
  const cell = { cell_type: "code", source, metadata: { trusted: true }, outputs: [], execution_count: null };
  return model.sharedModel.insertCell(at + 1, cell).id ?? "";
}

/**
 * @param {CellModel} cell
 * @param {string} name
 */
function hasOutput({ outputs }, name) {
  for (let i = 0; i < (outputs?.length ?? 0); i++) {
    const html = outputs?.get(i).data?.["text/html"];
    if (typeof html === "string" && html.split(/[\s"]/).includes(name)) return true;
  }
  return false;
}

/**
 * Let a person change a question in place.
 * @param {HTMLElement} words What shows the question.
 * @param {string} text
 * @param {(text: string) => void} send
 */
function editInPlace(words, text, send) {
  const form = element("div", "edit-form");
  const field = element("textarea", "edit-text");
  field.value = text;
  field.rows = Math.min(8, text.split("\n").length + 1);
  field.setAttribute("aria-label", "Edit your message");
  const close = () => {
    form.replaceWith(words);
  };
  const submit = () => {
    if (!field.value.trim()) return;
    close();
    send(field.value);
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      submit();
    } else if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      close();
    }
  });
  const buttons = element("div", "edit-buttons");
  buttons.append(button("Send again", "edit-send", submit), button("Cancel", "edit-cancel", close));
  form.append(field, buttons);
  words.replaceWith(form);
  field.focus();
}

/**
 * @param {Turn} turn
 * @param {number} number
 * @param {TurnActions} actions
 * @param {HTMLElement} [grown] What showed the answer while it grew.
 */
function turnElement(turn, number, actions, grown) {
  const node = element("article", "turn");
  node.dataset.role = turn.role;
  node.setAttribute("aria-label", turn.who);
  const tools = element("div", "tools");
  const mine = turn.role === "user";
  if (turn.text) tools.append(copyButton(turn.text, mine ? "Copy your message" : `Copy the answer of ${turn.who}`));
  const content = mine ? element("div", "bubble") : node;
  content.append(element("strong", mine ? "unseen" : "who", turn.who));
  if (mine) {
    node.append(content);
    const words = element("div", "words", turn.text);
    words.dir = "auto";
    content.append(words);
    const edit = button("Edit", "edit", () => {
      if (words.isConnected) editInPlace(words, turn.text, (text) => actions.edit(number, text));
    });
    edit.setAttribute("aria-label", "Edit your message and send it again");
    tools.append(edit);
  } else {
    const again = button("Retry", "retry", () => actions.retry());
    again.setAttribute("aria-label", "Retry: ask for another answer in place of this one");
    tools.append(again);
  }
  if (!mine && turn.html) {
    const answer = element("div", "answer");
    setHtml(answer, turn.html, grown);
    addCodeButtons(answer, actions.newCell);
    node.append(answer);
  }
  for (const { label, text } of turn.attachments) {
    const attached = element(text ? "details" : "div", "attached");
    attached.append(text ? element("summary", "", `Attached: ${label}`) : `Attached: ${label}`);
    if (text) attached.append(element("pre", "", text));
    content.append(attached);
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
  if (mine) {
    if (foot.childElementCount) node.append(foot);
    node.append(tools);
  } else {
    foot.append(tools);
    node.append(foot);
  }
  return node;
}
