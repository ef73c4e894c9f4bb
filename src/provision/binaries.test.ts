import { afterAll, expect, test } from "bun:test"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { binaryFor } from "./binaries.ts"

const folder = await mkdtemp(join(tmpdir(), "decamp-binaries-"))
afterAll(async () => await rm(folder, { recursive: true, force: true }))
const self = join(folder, "decamp")
await writeFile(self, "this one")
await writeFile(join(folder, "decamp-linux-arm64"), "arm")

const sha256 = (text: string): string => new Bun.CryptoHasher("sha256").update(text).digest("hex")
const other = process.arch === "x64" ? "arm64" : "x64"

test("a machine of the same kind gets this program itself", async () => {
  const facts = { os: process.platform === "darwin" ? "Darwin" : "Linux", arch: process.arch, hasAvx2: true }
  expect(await binaryFor("box", facts, [self])).toEqual({ path: self, sha256: sha256("this one") })
  await writeFile(self, "a new build")
  expect(await binaryFor("box", facts, [self])).toEqual({ path: self, sha256: sha256("a new build") })
})

test("one of another kind gets the program that lies beside it", async () => {
  if (other !== "arm64") return
  const binary = await binaryFor("box", { os: "Linux", arch: "arm64", hasAvx2: false }, [self])
  expect(binary).toEqual({ path: join(folder, "decamp-linux-arm64"), sha256: sha256("arm") })
})

test.each([
  ["Linux", "x64", false, "decamp-linux-x64-baseline"],
  ["Darwin", "arm64", false, "decamp-darwin-arm64"],
])("%s on %s needs what was not built, by name", async (os, arch, hasAvx2, name) => {
  await expect(binaryFor("box", { os, arch, hasAvx2 }, [self])).rejects.toMatchObject({
    code: "unsupported_platform",
    message: expect.stringContaining(name),
    hint: expect.stringContaining("--all"),
  })
})

test("what no build makes is not asked for", async () => {
  if (process.platform === "darwin" && process.arch === "x64") return
  await expect(binaryFor("box", { os: "Darwin", arch: "x64", hasAvx2: true }, [self])).rejects.toMatchObject({
    code: "unsupported_platform",
    hint: expect.stringContaining("another machine"),
  })
})

test("run from its source there is nothing to copy", async () => {
  const facts = { os: "Linux", arch: "x64", hasAvx2: true }
  await expect(binaryFor("box", facts, ["bun", "src/main.ts"])).rejects.toMatchObject({
    code: "unsupported_platform",
    message: expect.stringContaining("from its source"),
  })
})
