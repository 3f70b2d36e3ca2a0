// The service's own library; its published version has no other call that this API serves.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as skytells from "skytells";

test("models are an array with namespaces and prices", async () => {
  const Client = skytells.SkytellsClient;
  const client = new Client(process.env.SKYTELLS_API_KEY, { baseUrl: process.env.SKYTELLS_BASE_URL });
  const models = await client.listModels();
  assert.ok(Array.isArray(models));
  const found = models.find((model) => model.namespace === "gpt-5");
  assert.equal(found.pricing.unit, "million_token");
});
