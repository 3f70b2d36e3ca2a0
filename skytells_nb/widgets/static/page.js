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
