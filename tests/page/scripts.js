// The page scripts as the widgets join them: classic scripts, evaluated together in a context of their own.

import { readFileSync } from "node:fs";
import vm from "node:vm";

const FOLDER = new URL("../../skytells_nb/widgets/static/", import.meta.url);

/**
 * Evaluate these scripts and return what the names in them stand for.
 * @param {string[]} files
 * @param {string[]} names
 * @param {Record<string, unknown>} page What the page provides: `document`, `ImageData` and the like.
 */
export function load(files, names, page = {}) {
  const scripts = files.map((file) => readFileSync(new URL(file, FOLDER), "utf8"));
  const joined = scripts.join("\n").replace(/^export default .*$/m, "");
  return vm.runInNewContext(`${joined}\n({ ${names.join(", ")} })`, page);
}

/** Values from another context, as this one's: `deepStrictEqual` compares prototypes. */
export const plain = (value) => JSON.parse(JSON.stringify(value));

/** A canvas without a screen, which records the image that was drawn last. */
export class Canvas {
  getContext() {
    return { putImageData: (image, x, y) => Object.assign(this, { image, x, y }) };
  }
}

export class ImageData {
  constructor(width, height) {
    this.data = new Uint8ClampedArray(4 * width * height);
  }
}
