// What the pages of all widgets are made of. Text is always set as text.

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = `skytells-${className}`;
  if (text !== undefined) node.textContent = text;
  return node;
}

function button(text, className, action) {
  const node = element("button", className, text);
  node.type = "button";
  node.addEventListener("click", action);
  return node;
}
