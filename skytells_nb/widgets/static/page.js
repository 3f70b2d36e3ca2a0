// Elements that all widgets use. Text is always set as text, never parsed as HTML.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [className]
 * @param {string} [text]
 */
function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = `skytells-${className}`;
  if (text !== undefined) node.textContent = text;
  return node;
}

/**
 * @param {string} text
 * @param {string} className
 * @param {(event: MouseEvent) => unknown} action
 */
function button(text, className, action) {
  const node = element("button", className, text);
  node.type = "button";
  node.addEventListener("click", action);
  return node;
}

/**
 * The style that hides what is saved for pages without a kernel, while the widget itself is shown. Another notebook of
 * the same page may have outputs with the same name, so in Jupyter only outputs of the widget's cell are hidden.
 * @param {HTMLElement} root
 * @param {string} name
 * @param {string[]} saved
 */
function hidingStyle(root, name, saved) {
  const area = `.jp-OutputArea:has(> * .${root.classList[0]}[data-saved="${name}"]) `;
  const scope = document.querySelector(".jp-OutputArea") ? area : "";
  return `${saved.map((selector) => scope + selector).join(", ")} { display: none !important; }`;
}

const LOST_WITH = {
  restarting: "The kernel was restarted.",
  autorestarting: "The kernel died and was restarted.",
  dead: "The kernel died.",
  terminating: "The kernel was shut down.",
};

/**
 * Call `lost`, once, with what happened to the kernel that made a widget: what Python knew of the widget is gone.
 * JupyterLab tells how its kernel is; elsewhere the end of the connection of the widget does.
 * @param {Pick<Model<any>, "on" | "off">} model
 * @param {NotebookManager | undefined} manager
 * @param {(words: string) => void} lost
 * @returns {() => void} A function that ends the watch.
 */
function watchKernel(model, manager, lost) {
  const session = manager?.context?.sessionContext;
  const statusChanged = session?.statusChanged ?? manager?.kernel?.statusChanged;
  let told = false;
  /** @param {string} words */
  const tell = (words) => {
    if (!told) lost(words);
    told = true;
  };
  /** @type {(sender: unknown, status: string) => void} */
  const onStatus = (sender, status) => {
    if (status in LOST_WITH) tell(LOST_WITH[/** @type {keyof typeof LOST_WITH} */ (status)]);
  };
  /** @type {(sender: unknown, change: { oldValue: Kernel | null, newValue: Kernel | null }) => void} */
  const onKernel = (sender, { oldValue, newValue }) => {
    if (newValue === null) tell(LOST_WITH.terminating);
    else if (oldValue && newValue.id !== oldValue.id) tell("The notebook has another kernel now.");
  };
  const onConnection = () => {
    const kernel = session ? session.session?.kernel : manager?.kernel;
    // JupyterLab closes and opens the connection of a widget too while it reconnects to the same kernel.
    if (kernel?.status !== "idle" && kernel?.status !== "busy") tell(LOST_WITH.restarting);
  };
  statusChanged?.connect(onStatus);
  session?.kernelChanged.connect(onKernel);
  model.on(/** @type {any} */ ("comm_live_update"), onConnection);
  return () => {
    statusChanged?.disconnect(onStatus);
    session?.kernelChanged.disconnect(onKernel);
    model.off(/** @type {any} */ ("comm_live_update"), onConnection);
  };
}
