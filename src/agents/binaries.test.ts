import { expect, test } from "bun:test"
import { mkdtemp, rename, rm, symlink, utimes, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { binaryFinder } from "./binaries.ts"

test("another version of the same size and time is asked for its version, whether it was put in place or linked to", async () => {
  const folder = await mkdtemp(join(tmpdir(), "decamp-binaries-"))
  try {
    const find = binaryFinder("tool")
    const env = { PATH: `${folder}:/usr/bin:/bin` }
    const write = async (name: string, version: string): Promise<void> => {
      await writeFile(join(folder, name), `#!/bin/sh\necho ${version}\n`, { mode: 0o755 })
      await utimes(join(folder, name), 499_162_500, 499_162_500)
    }
    await write("tool", "1.0.0")
    expect((await find(env))?.version).toBe("1.0.0")
    await write("new", "1.0.1")
    await rename(join(folder, "new"), join(folder, "tool"))
    expect((await find(env))?.version).toBe("1.0.1")
    await write("tool-1.0.2", "1.0.2")
    await rm(join(folder, "tool"))
    await symlink("tool-1.0.2", join(folder, "tool"))
    expect((await find(env))?.version).toBe("1.0.2")
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
