import { afterAll, expect, test } from "bun:test"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { AppError } from "../protocol/errors.ts"
import { checkDisk } from "./preflight.ts"

const folder = await mkdtemp(join(tmpdir(), "decamp-preflight-"))
afterAll(async () => await rm(folder, { recursive: true, force: true }))

test("a workspace that fits is let through, also into a directory that is not there yet", async () => {
  await checkDisk(join(folder, "not/yet/there"), 1000)
})

test("one that does not fit is refused as no_space, naming the directory and both numbers", async () => {
  const error = await checkDisk(join(folder, "there"), 2 ** 60).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(AppError)
  expect(error).toMatchObject({ code: "no_space", message: expect.stringContaining(join(folder, "there")) })
})

test("a path below a file is not writable", async () => {
  await Bun.write(join(folder, "file"), "x")
  const error = await checkDisk(join(folder, "file/below"), 1).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject({ code: "not_writable" })
})
