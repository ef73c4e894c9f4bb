import { expect, setDefaultTimeout, test } from "bun:test"
import { readFile, rm } from "node:fs/promises"
import { join } from "node:path"
import { captureCode } from "../../src/checkpoint/capture.ts"
import { openRepository } from "../../src/checkpoint/repository.ts"
import { filesOf, userGit } from "../support/checkout.ts"
import { steps } from "../support/code-world.ts"
import { mode, plainRepository, thereAndBack, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

const IGNORE = "*.log\nbuild/\n.env*\nlocal.json\n"

test("row 11: ignored files that .worktreeinclude names travel, there and back; the others stay and are listed", async () => {
  const included = ["local.json", "build/cache/a.bin", "build/keep.txt", "deep/local.json"]
  await thereAndBack({
    picture: { travelling: true, included },
    async before(top) {
      await plainRepository(top)
      await write(top, { ".gitignore": IGNORE })
      await userGit(top, "add", "-A")
      await userGit(top, "commit", "-qm", "ignore")
    },
    async state(top) {
      await write(top, {
        ".worktreeinclude": "# what an agent needs\nlocal.json\nbuild/cache/*.bin\n/build/keep.txt\n",
      })
      await write(top, {
        "local.json": "{}\n",
        "deep/local.json": "{1}\n",
        "x.log": "stays\n",
        "build/out.js": "stays\n",
      })
      await write(top, { "build/cache/a.bin": "cached\n", "build/cache/b.tmp": "stays\n", "build/keep.txt": "kept\n" })
      await mode(top, "local.json", 0o600)
    },
    async arrived({ fresh, warm }, { notTravelling }) {
      for (const place of [fresh, warm]) {
        const files = Object.keys(await filesOf(place))
        for (const path of included) expect(files).toContain(path)
        for (const path of ["x.log", "build/out.js", "build/cache/b.tmp"]) expect(files).not.toContain(path)
      }
      const ignored = notTravelling.filter(({ kind }) => kind === "ignored").map(({ path }) => path)
      expect(ignored).toContain("x.log")
    },
    async change(fresh) {
      await write(fresh, { "local.json": "changed there\n", "build/cache/a.bin": "changed there\n" })
      await rm(join(fresh, "build/keep.txt"))
    },
    async home({ top }) {
      expect(await readFile(join(top, "x.log"), "utf8")).toBe("stays\n")
      expect(await readFile(join(top, "build/out.js"), "utf8")).toBe("stays\n")
      expect(await readFile(join(top, "build/cache/b.tmp"), "utf8")).toBe("stays\n")
    },
  })
})

const SECRETS = [".env", ".env.local", "keys/server.pem", "id_ed25519", "prod.tfvars", "credentials.json", ".npmrc"]

test("row 11: files that look like secrets stay, ignored or not, and are listed; at home they lie where they lay", async () => {
  await thereAndBack({
    picture: { travelling: true, without: [...SECRETS, "keys"] },
    async state(top) {
      await write(top, { ".gitignore": IGNORE })
      for (const path of SECRETS) await write(top, { [path]: `${path} secret\n` })
      await write(top, { ".env.example": "travels\n" })
    },
    async arrived({ fresh, warm }, { notTravelling, notices }) {
      const listed = notTravelling.filter(({ kind }) => kind === "secret").map(({ path }) => path)
      expect(listed.toSorted()).toEqual(SECRETS.toSorted())
      expect(notices.join("\n")).not.toContain("secret")
      for (const place of [fresh, warm]) {
        const files = Object.keys(await filesOf(place))
        for (const path of SECRETS) expect(files).not.toContain(path)
      }
    },
    async home({ top }) {
      for (const path of SECRETS) expect(await readFile(join(top, path), "utf8")).toBe(`${path} secret\n`)
    },
  })
})

test("row 11: secrets that .worktreeinclude names travel, and a dry run shows them by name", async () => {
  await thereAndBack({
    picture: { travelling: true, included: [".env"] },
    async before(top) {
      await plainRepository(top)
      await write(top, { ".gitignore": IGNORE, ".worktreeinclude": ".env\n*.pem\n" })
    },
    async state(top, world) {
      await write(top, { ".env": "KEY=1\n", "server.pem": "key\n" })
      await mode(top, ".env", 0o600)
      const repository = await openRepository(top)
      const { sink } = world.blobs
      const planned = await captureCode({
        repository,
        previous: null,
        sink,
        scratch: world.scratch,
        steps,
        dryRun: true,
      })
      const said = planned.notices.join("\n")
      expect(said).toContain(".env")
      expect(said).toContain("server.pem")
    },
    async arrived({ fresh }, { notTravelling }) {
      expect(notTravelling.filter(({ kind }) => kind === "secret")).toEqual([])
      expect(await readFile(join(fresh, ".env"), "utf8")).toBe("KEY=1\n")
    },
    async change(fresh) {
      await write(fresh, { ".env": "KEY=2\n" })
    },
    async home({ top }) {
      expect(await readFile(join(top, ".env"), "utf8")).toBe("KEY=2\n")
    },
  })
})

test("row 11: files like secrets that are tracked travel as they always did", async () => {
  await thereAndBack({
    async state(top) {
      await write(top, { ".env": "committed\n", "server.pem": "committed\n" })
      await userGit(top, "add", "-f", ".env", "server.pem")
      await userGit(top, "commit", "-qm", "on purpose")
      await write(top, { ".env": "edited\n", id_rsa: "staged\n" })
      await userGit(top, "add", "id_rsa")
    },
  })
})
