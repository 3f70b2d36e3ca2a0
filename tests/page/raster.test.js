import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Canvas, ImageData, load } from "./scripts.js";

const { disc, replacePixels, blendPixels, pointsInPolygon, context2d, Raster } = load(
  ["explorer_raster.js"],
  ["disc", "replacePixels", "blendPixels", "pointsInPolygon", "context2d", "Raster"],
  { ImageData },
);
const { HIDDEN, DIM, PLAIN, EMPHASIZED, NO_POINT } = load(
  ["explorer_raster.js"],
  ["HIDDEN", "DIM", "PLAIN", "EMPHASIZED", "NO_POINT"],
);

const alpha = (pixel) => pixel >>> 24;

describe("disc", () => {
  it("fills exactly one pixel at radius 0.5", () => {
    const { reach, offsets, coverage } = disc(0.5, 10);
    assert.equal(reach, 1);
    assert.deepEqual([...offsets], [0]);
    assert.deepEqual([...coverage], [255]);
  });

  it("is symmetric, and opaque at its center", () => {
    const width = 100;
    const { offsets, coverage } = disc(3.5, width);
    const at = new Map([...offsets].map((offset, i) => [offset, coverage[i]]));
    assert.equal(at.get(0), 255);
    for (const [offset, share] of at) assert.equal(at.get(-offset), share);
    assert.ok(coverage.some((share) => share < 255), "no soft edge");
    assert.equal(at.has(4 * width), false);
  });

  it("fills whole pixels only without a soft edge", () => {
    assert.deepEqual(new Set(disc(3.5, 100, { soft: false }).coverage), new Set([255]));
  });

  it("is as transparent as alpha", () => {
    assert.equal(Math.max(...disc(2, 100, { alpha: 0.22 }).coverage), Math.round(0.22 * 255));
  });
});

describe("replacePixels and blendPixels", () => {
  const one = { reach: 0, offsets: Int32Array.of(0), coverage: Uint8Array.of(255) };
  const half = { ...one, coverage: Uint8Array.of(51) };

  it("replaces what is below", () => {
    const pixels = Uint32Array.of(0xff0000ff);
    replacePixels(pixels, 0, half, 0x00ff00);
    assert.equal(pixels[0] >>> 0, 0x3300ff00);
  });

  it("is the color itself on an empty pixel, and under full coverage", () => {
    const pixels = Uint32Array.of(0, 0xff0000ff);
    blendPixels(pixels, 0, half, 0x102030);
    blendPixels(pixels, 1, one, 0x102030);
    assert.deepEqual([...pixels].map((pixel) => pixel >>> 0), [0x33102030, 0xff102030]);
  });

  it("mixes each channel by its coverage and uses the higher alpha", () => {
    const pixels = Uint32Array.of(0xff0000ff);
    blendPixels(pixels, 0, half, 0xff8000);
    // A fifth of the color, four fifths of the pixel below: blue 51, green 25, red 204.
    assert.equal(pixels[0] >>> 0, 0xff3319cc);
  });
});

describe("pointsInPolygon", () => {
  const points = Uint16Array.of(5, 5, 15, 5, 25, 5, 0, 0);
  const levels = Uint8Array.of(PLAIN, PLAIN, PLAIN, PLAIN);
  const box = [[2, 2], [20, 2], [20, 20], [2, 20]];

  it("finds the points inside a box", () => {
    assert.deepEqual([...pointsInPolygon(points, levels, box)], [0, 1]);
  });

  it("finds the same whichever way around the corners are named", () => {
    assert.deepEqual([...pointsInPolygon(points, levels, box.toReversed())], [0, 1]);
  });

  it("leaves out hidden points", () => {
    assert.deepEqual([...pointsInPolygon(points, Uint8Array.of(HIDDEN, DIM, EMPHASIZED, PLAIN), box)], [1]);
  });

  it("leaves out the notch of a shape that is concave", () => {
    const notched = [[0, 0], [30, 0], [30, 30], [15, 4], [0, 30]];
    assert.deepEqual([...pointsInPolygon(points, levels, notched)].includes(1), false);
    assert.deepEqual([...pointsInPolygon(points, levels, notched)].includes(0), true);
  });

  it("finds nothing inside a line", () => {
    assert.equal(pointsInPolygon(points, levels, [[2, 2], [20, 2]]).length, 0);
  });
});

describe("Raster", () => {
  const view = { scale: 1, x: 0, y: 0 };
  const scene = {
    points: Uint16Array.of(20, 20, 60, 60),
    codes: Uint8Array.of(0, 1),
    levels: Uint8Array.of(PLAIN, EMPHASIZED),
    colors: [0x0000ff, 0x00ff00],
    hollow: -1,
    view,
    radius: 3,
  };
  const raster = () => {
    const created = new Raster(new Canvas());
    created.resize(100, 80);
    return created;
  };
  const pixel = (image, x, y) => image.pixels[(y + image.padding) * image.width + x + image.padding] >>> 0;

  it("needs a canvas that draws", () => {
    assert.throws(() => context2d({ getContext: () => null }), /does not support a 2D canvas/);
  });

  it("draws nothing before it has a size", () => {
    const created = new Raster(new Canvas());
    created.draw(scene);
    assert.equal(created.canvas.image, undefined);
  });

  it("draws each point in the color of its code, at its place", () => {
    const image = raster();
    image.draw(scene);
    assert.equal(pixel(image, 20, 20), 0xff0000ff);
    assert.equal(pixel(image, 60, 60), 0xff00ff00);
    assert.equal(pixel(image, 40, 40), 0);
    assert.deepEqual([image.canvas.x, image.canvas.y], [-image.padding, -image.padding]);
  });

  it("draws hidden points nowhere, and dim ones pale and gray", () => {
    const image = raster();
    image.draw({ ...scene, levels: Uint8Array.of(DIM, HIDDEN) });
    assert.equal(pixel(image, 20, 20) & 0xffffff, 0x808080);
    assert.equal(alpha(pixel(image, 20, 20)), Math.round(0.22 * 255));
    assert.equal(pixel(image, 60, 60), 0);
  });

  it("draws points without a value as rings, of any size and selected or not", () => {
    for (const radius of [0.5, 1, 3, 6]) {
      for (const level of [DIM, PLAIN, EMPHASIZED]) {
        const image = raster();
        image.draw({ ...scene, radius, hollow: 1, levels: Uint8Array.of(level, level) });
        const reach = level === EMPHASIZED ? Math.round(radius * 1.5 + 1) : Math.round(Math.max(radius, 2));
        const [middle, edge] = [pixel(image, 60, 60), pixel(image, 60 + reach, 60)];
        assert.ok(alpha(edge) > alpha(middle) || (middle & 0xffffff) !== 0x00ff00, `${radius} ${level}`);
        assert.equal(image.nearestPoint(60, 60, 2), 1);
        assert.ok(alpha(pixel(image, 20, 20)) > 0);
      }
    }
  });

  it("finds the nearest point in reach, and none beyond it", () => {
    const image = raster();
    image.draw({ ...scene, points: Uint16Array.of(20, 20, 26, 20) });
    assert.equal(image.nearestPoint(22, 20, 6), 0);
    assert.equal(image.nearestPoint(24, 20, 6), 1);
    assert.equal(image.nearestPoint(20, 33, 6), NO_POINT);
    assert.equal(image.nearestPoint(-100, -100, 6), NO_POINT);
  });

  it("leaves out points outside the image", () => {
    const image = raster();
    image.draw({ ...scene, points: Uint16Array.of(60000, 20, 60, 60000) });
    assert.ok(image.pixels.every((found) => found === 0));
  });
});
