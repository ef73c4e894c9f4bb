import { afterAll, expect, test } from "bun:test"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { blobIdSchema, newWorkspaceId, tenantIdSchema } from "../protocol/ids.ts"
import { blobKey } from "./keys.ts"
import { checkSignedUrl, newSigningKey, readSigningKey, signedUrl } from "./signed-url.ts"

const folder = await mkdtemp(join(tmpdir(), "decamp-sign-"))
afterAll(async () => await rm(folder, { recursive: true, force: true }))

const signingKey = newSigningKey()
const workspace = newWorkspaceId()
const blob = blobIdSchema.parse("a".repeat(64))
const grant = {
  method: "PUT",
  key: blobKey(tenantIdSchema.parse("local"), workspace, blob),
  sizeBytes: 42,
  expiresAtMs: 1000,
} as const
const url = signedUrl(signingKey, grant)

test("a signed address allows what was signed until it expires", () => {
  expect(url.startsWith("/blobs/local/ws_")).toBe(true)
  expect(checkSignedUrl(signingKey, { method: "PUT", url: `http://any${url}` }, 1000)).toEqual(grant)
  expect(() => checkSignedUrl(signingKey, { method: "PUT", url }, 1001)).toThrow("expired")
})

test.each([
  ["another method", "GET", url],
  ["HEAD", "HEAD", url],
  ["another size", "PUT", url.replace("size=42", "size=43")],
  ["another expiry", "PUT", url.replace("expires=1000", "expires=9999")],
  ["another tenant", "PUT", url.replace("/local/", "/other/")],
  ["another workspace", "PUT", url.replace(workspace, newWorkspaceId())],
  ["another blob", "PUT", url.replace("a".repeat(64), "b".repeat(64))],
  ["a cut signature", "PUT", url.slice(0, -2)],
  ["no signature", "PUT", url.split("&signature")[0] ?? ""],
  ["no query", "PUT", url.split("?")[0] ?? ""],
  ["a number that is none", "PUT", url.replace("size=42", "size=4e1")],
  ["a path that escapes", "PUT", url.replace("/blobs/", "/blobs/../")],
])("an address changed to %s is refused as wrong", (_, method, changed) => {
  expect(() => checkSignedUrl(signingKey, { method, url: changed }, 0)).toThrow(
    expect.objectContaining({ code: "wrong_token" }),
  )
})

test("an address of another gateway's key is refused", () => {
  expect(() => checkSignedUrl(newSigningKey(), { method: "PUT", url }, 0)).toThrow("signature")
})

test("the key of an earlier version is read from its file, and a damaged one is said", async () => {
  expect(await readSigningKey(join(folder, "none"))).toBeNull()
  await writeFile(join(folder, "key"), signingKey)
  expect(await readSigningKey(join(folder, "key"))).toEqual(Buffer.from(signingKey))
  await writeFile(join(folder, "short"), "too short")
  await expect(readSigningKey(join(folder, "short"))).rejects.toMatchObject({ code: "damaged_data" })
})
