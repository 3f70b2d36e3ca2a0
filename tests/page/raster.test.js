import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Canvas, ImageData, load } from "./scripts.js";

const { disc, cover, blend, within, context2d, Raster, HIDDEN, DIM, PLAIN, LIT, NOTHING } = load(
  ["explorer_raster.js"],
  ["disc", "cover", "blend", "within", "context2d", "Raster", "HIDDEN", "DIM", "PLAIN", "LIT", "NOTHING"],
  { ImageData },
);

const alpha = (pixel) => pixel >>> 24;

describe("disc", () => {
  it("covers exactly one pixel at radius 0.5", () => {
    const { reach, offsets, covers } = disc(0.5, 10);
    assert.equal(reach, 1);
    assert.deepEqual([...offsets], [0]);
    assert.deepEqual([...covers], [255]);
  });

  it("is symmetric, and full in its middle", () => {
    const width = 100;
    const { offsets, covers } = disc(3.5, width);
    const at = new Map([...offsets].map((offset, i) => [offset, covers[i]]));
    assert.equal(at.get(0), 255);
    for (const [offset, share] of at) assert.equal(at.get(-offset), share);
    assert.ok(covers.some((share) => share < 255), "no soft edge");
    assert.equal(at.has(4 * width), false);
  });

  it("covers whole pixels only where it has no soft edge", () => {
    assert.deepEqual(new Set(disc(3.5, 100, { soft: false }).covers), new Set([255]));
  });

  it("is as pale as alpha says", () => {
    assert.equal(Math.max(...disc(2, 100, { alpha: 0.22 }).covers), Math.round(0.22 * 255));
  });
});

describe("cover and blend", () => {
  const one = { reach: 0, offsets: Int32Array.of(0), covers: Uint8Array.of(255) };
  const half = { ...one, covers: Uint8Array.of(51) };

  it("cover replaces what is below", () => {
    const pixels = Uint32Array.of(0xff0000ff);
    cover(pixels, 0, half, 0x00ff00);
    assert.equal(pixels[0] >>> 0, 0x3300ff00);
  });

  it("blend is the ink itself on an empty pixel, and under full coverage", () => {
    const pixels = Uint32Array.of(0, 0xff0000ff);
    blend(pixels, 0, half, 0x102030);
    blend(pixels, 1, one, 0x102030);
    assert.deepEqual([...pixels].map((pixel) => pixel >>> 0), [0x33102030, 0xff102030]);
  });

  it("blend mixes each channel by its coverage and keeps the stronger alpha", () => {
    const pixels = Uint32Array.of(0xff0000ff);
    blend(pixels, 0, half, 0xff8000);
    // A fifth of the ink, four fifths of what was there: blue 51, green 25, red 204.
    assert.equal(pixels[0] >>> 0, 0xff3319cc);
  });
});

describe("within", () => {
  const points = Uint16Array.of(5, 5, 15, 5, 25, 5, 0, 0);
  const levels = Uint8Array.of(PLAIN, PLAIN, PLAIN, PLAIN);
  const box = [[2, 2], [20, 2], [20, 20], [2, 20]];

  it("finds the points inside a box", () => {
    assert.deepEqual([...within(points, levels, box)], [0, 1]);
  });

  it("finds the same whichever way around the corners are named", () => {
    assert.deepEqual([...within(points, levels, box.toReversed())], [0, 1]);
  });

  it("leaves out hidden points", () => {
    assert.deepEqual([...within(points, Uint8Array.of(HIDDEN, DIM, LIT, PLAIN), box)], [1]);
  });

  it("leaves out the notch of a shape that is not convex", () => {
    const notched = [[0, 0], [30, 0], [30, 30], [15, 4], [0, 30]];
    assert.deepEqual([...within(points, levels, notched)].includes(1), false);
    assert.deepEqual([...within(points, levels, notched)].includes(0), true);
  });

  it("finds nothing inside a line", () => {
    assert.equal(within(points, levels, [[2, 2], [20, 2]]).length, 0);
  });
});

describe("Raster", () => {
  const view = { scale: 1, x: 0, y: 0 };
  const scene = {
    points: Uint16Array.of(20, 20, 60, 60),
    codes: Uint8Array.of(0, 1),
    levels: Uint8Array.of(PLAIN, LIT),
    inks: [0x0000ff, 0x00ff00],
    view,
    radius: 3,
  };
  const raster = () => {
    const made = new Raster(new Canvas());
    made.resize(100, 80);
    return made;
  };
  const pixel = (drawn, x, y) => drawn.pixels[(y + drawn.pad) * drawn.width + x + drawn.pad] >>> 0;

  it("needs a canvas that draws", () => {
    assert.throws(() => context2d({ getContext: () => null }), /no 2D canvas/);
  });

  it("draws nothing before it has a size", () => {
    const made = new Raster(new Canvas());
    made.draw(scene);
    assert.equal(made.canvas.image, undefined);
  });

  it("draws each point in the color of its code, at its place", () => {
    const drawn = raster();
    drawn.draw(scene);
    assert.equal(pixel(drawn, 20, 20), 0xff0000ff);
    assert.equal(pixel(drawn, 60, 60), 0xff00ff00);
    assert.equal(pixel(drawn, 40, 40), 0);
    assert.deepEqual([drawn.canvas.x, drawn.canvas.y], [-drawn.pad, -drawn.pad]);
  });

  it("draws hidden points nowhere, and dim ones pale and gray", () => {
    const drawn = raster();
    drawn.draw({ ...scene, levels: Uint8Array.of(DIM, HIDDEN) });
    assert.equal(pixel(drawn, 20, 20) & 0xffffff, 0x808080);
    assert.equal(alpha(pixel(drawn, 20, 20)), Math.round(0.22 * 255));
    assert.equal(pixel(drawn, 60, 60), 0);
  });

  it("finds the nearest point within reach, and none beyond it", () => {
    const drawn = raster();
    drawn.draw({ ...scene, points: Uint16Array.of(20, 20, 26, 20) });
    assert.equal(drawn.pointAt(22, 20, 6), 0);
    assert.equal(drawn.pointAt(24, 20, 6), 1);
    assert.equal(drawn.pointAt(20, 33, 6), NOTHING);
    assert.equal(drawn.pointAt(-100, -100, 6), NOTHING);
  });

  it("leaves out points outside the image", () => {
    const drawn = raster();
    drawn.draw({ ...scene, points: Uint16Array.of(60000, 20, 60, 60000) });
    assert.ok(drawn.pixels.every((found) => found === 0));
  });
});
