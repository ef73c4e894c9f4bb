/** Trees that nobody here wrote: published packages as they lie in node_modules. */
import { setDefaultTimeout, test } from "bun:test"
import { chmod, cp, mkdir, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { thereAndBack, write } from "../matrix/there-and-back.ts"
import { userGit } from "../support/checkout.ts"

setDefaultTimeout(300_000)

const PACKAGES = join(import.meta.dir, "../../node_modules")

async function committed(top: string, name: string): Promise<readonly string[]> {
  await mkdir(top, { recursive: true })
  await cp(join(PACKAGES, name), top, { recursive: true, dereference: false })
  await userGit(top, "init", "-q", "-b", "main")
  await userGit(top, "add", "-A", "-f")
  await userGit(top, "commit", "-qm", `${name} as published`)
  return await filesIn(top)
}

async function filesIn(top: string): Promise<readonly string[]> {
  return (await userGit(top, "ls-files", "-z")).split("\0").filter((path) => path !== "")
}

test.each(["typescript", "zod", "kysely"])(
  "the package %s with every tenth file touched goes there and back",
  async (name) => {
    await thereAndBack({
      before: async (top) => void (await committed(top, name)),
      async state(top) {
        const files = await filesIn(top)
        for (const [at, path] of files.entries()) {
          const file = join(top, path)
          if (at % 50 === 0) await write(top, { [path]: `${await Bun.file(file).text()}\nedited\n` })
          else if (at % 50 === 10) await rm(file)
          else if (at % 50 === 20) await rename(file, `${file}.moved`)
          else if (at % 50 === 30) await chmod(file, 0o755)
          else if (at % 50 === 40) await write(top, { [`${path}.new`]: await Bun.file(file).bytes() })
        }
        await userGit(top, "add", "-f", "--", ...files.filter((_, at) => at % 100 === 0))
      },
      async change(fresh) {
        await userGit(fresh, "add", "-A", "-f")
        await userGit(fresh, "commit", "-qm", "all of it")
        for (const path of (await filesIn(fresh)).filter((_, at) => at % 40 === 0))
          await write(fresh, { [path]: "there\n" })
      },
    })
  },
)
