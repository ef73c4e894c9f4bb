import { expect, test } from "bun:test"
import { s3Client } from "./s3-client.ts"

const settings = {
  endpoint: "https://s3.example.org",
  bucket: "decamp-team",
  region: "eu-central-1",
  accessKeyId: "AK",
  secretAccessKey: "planted-secret",
}

test.each([
  ["https://s3.example.org", "https://s3.example.org/decamp-team"],
  ["https://s3.example.org/", "https://s3.example.org/decamp-team"],
  ["http://127.0.0.1:9000", "http://127.0.0.1:9000/decamp-team"],
])("the store of %s begins with %s", async (endpoint, storeUrl) => {
  expect((await s3Client({ ...settings, endpoint })).storeUrl).toBe(storeUrl)
})

test.each([
  { endpoint: "s3.example.org" },
  { endpoint: "ftp://s3.example.org" },
  { endpoint: "https://s3.example.org/path" },
  { endpoint: "https://user@s3.example.org" },
  { endpoint: "https://s3.example.org?x=1" },
  { bucket: "" },
  { bucket: "Upper" },
  { bucket: "a/b" },
  { bucket: "../other" },
  { bucket: "with.dots" },
  { bucket: "-x-" },
])("settings that name no server or bucket are refused: %p", async (change) => {
  await expect(s3Client({ ...settings, ...change })).rejects.toMatchObject({ code: "invalid_request" })
})

test("an address carries a signature and its expiry, and never the secret", async () => {
  const client = await s3Client(settings)
  const url = new URL(await client.presign("PUT", "local/x", 61.2, { headers: { "content-length": "5" } }))
  expect(url.origin + url.pathname).toBe(`${client.storeUrl}/local/x`)
  expect(url.searchParams.get("X-Amz-Expires")).toBe("62")
  expect(url.searchParams.get("X-Amz-SignedHeaders")).toBe("content-length;host")
  expect(url.searchParams.get("X-Amz-Signature")).toMatch(/^[0-9a-f]{64}$/)
  expect(String(url)).not.toContain("planted-secret")
})

test("an address lives a second at least and a week at most", async () => {
  const client = await s3Client(settings)
  const lifeOf = async (seconds: number) =>
    new URL(await client.presign("GET", "x", seconds)).searchParams.get("X-Amz-Expires")
  expect([await lifeOf(-5), await lifeOf(9_999_999)]).toEqual(["1", "604800"])
})
