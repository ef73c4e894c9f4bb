import { afterAll, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { toAppError, type AppError } from "../protocol/errors.ts"
import { directoryLocks, placeToLock, type DirectoryLocks, type LockRequest } from "./directory-locks.ts"

const root = await realpath(await mkdtemp(join(tmpdir(), "decamp-locks-")))
afterAll(async () => await rm(root, { recursive: true, force: true }))

const never = new AbortController().signal
const locks = (name = "laptop", nowMs = () => Date.now()): DirectoryLocks => directoryLocks(() => name, nowMs)

function asking(command: string, more: Partial<LockRequest> = {}): LockRequest & { readonly said: string[] } {
  const said: string[] = []
  const notice = (text: string): void => void said.push(text)
  return { directory: "/w", gitDir: null, command, waitMs: null, signal: never, notice, said, ...more }
}

/** Work that goes on until it is told to end. */
function open(of: DirectoryLocks, request: LockRequest) {
  const end = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<void>()
  const done = of.hold(request, async () => {
    begun.resolve()
    await end.promise
  })
  return { begun: begun.promise, end: end.resolve, done }
}

async function failureOf(work: Promise<unknown>): Promise<AppError> {
  return toAppError(
    await work.then(
      () => null,
      (error: unknown) => error,
    ),
  )
}

test("commands in one directory run one at a time, in the order in which they came, and the second says whom it waits for", async () => {
  let now = 1000
  const here = locks("laptop", () => now)
  const order: string[] = []
  const first = open(here, asking("decamp pull"))
  await first.begun
  now += 12_000
  const second = asking("decamp restore")
  const waiting = [second, asking("decamp push"), asking("decamp prune")].map(
    async (request) => await here.hold(request, async () => void order.push(request.command)),
  )
  await Bun.sleep(20)
  expect([order, second.said]).toEqual([[], ["waiting for: decamp pull (started 12 s ago)"]])
  expect(here.holder("/w")).toEqual({ command: "decamp pull", sinceMs: 1000 })
  first.end()
  await Promise.all([first.done, ...waiting])
  expect(order).toEqual(["decamp restore", "decamp push", "decamp prune"])
  expect(here.holder("/w")).toBeNull()
})

test("commands in two directories do not wait for one another", async () => {
  const here = locks()
  const first = open(here, asking("decamp pull"))
  await first.begun
  expect(await here.hold(asking("decamp pull", { directory: "/x" }), async () => "done")).toBe("done")
  first.end()
  await first.done
})

test("after its time a waiting command is refused as busy with the holder, and those behind it still have their turn", async () => {
  const here = locks()
  const first = open(here, asking("decamp pull"))
  await first.begun
  const refused = failureOf(here.hold(asking("decamp push", { waitMs: 30 }), async () => {}))
  const third = here.hold(asking("decamp diff"), async () => "done")
  expect(await refused).toMatchObject({
    code: "busy",
    message: expect.stringMatching(/^decamp pull works in \/w since /),
    details: { command: "decamp pull" },
  })
  first.end()
  expect(await third).toBe("done")
})

test("a waiting command whose client goes away leaves the queue; a failing one lets the next one in", async () => {
  const here = locks()
  const first = open(here, asking("decamp pull"))
  await first.begun
  const gone = new AbortController()
  const second = failureOf(here.hold(asking("decamp push", { signal: gone.signal }), async () => {}))
  const third = failureOf(
    here.hold(asking("decamp restore"), async () => {
      throw new Error("of the work itself")
    }),
  )
  const fourth = here.hold(asking("decamp diff"), async () => "done")
  gone.abort()
  expect((await second).code).toBe("interrupted")
  first.end()
  expect((await third).message).toBe("of the work itself")
  expect(await fourth).toBe("done")
})

async function gitFolder(name: string): Promise<string> {
  const folder = join(root, name, ".git")
  await mkdir(folder, { recursive: true })
  return folder
}

test("the daemon of another home directory waits too, is told who works there, and gives up in time", async () => {
  const gitDir = await gitFolder("two-homes")
  const first = open(locks("laptop"), asking("decamp pull", { gitDir }))
  await first.begun
  const second = asking("decamp push", { gitDir, waitMs: 300 })
  const error = await failureOf(locks("other").hold(second, async () => {}))
  const holder = `decamp pull of laptop \\(pid ${process.pid}\\)`
  expect(error).toMatchObject({ code: "busy", message: expect.stringMatching(new RegExp(`^${holder} works in /w`)) })
  expect(second.said).toEqual([expect.stringMatching(new RegExp(`^waiting for: ${holder} \\(started \\d+ s ago\\)$`))])
  first.end()
  await first.done
  expect(await locks("other").hold(asking("decamp push", { gitDir }), async () => "done")).toBe("done")
  expect(existsSync(join(gitDir, "decamp/holder.json"))).toBe(false)
})

test("steps of one daemon share the lock of its command, and the last one lets go of it", async () => {
  const gitDir = await gitFolder("shared")
  const [here, there] = [locks(), locks("other")]
  const held = await here.hold(asking("decamp push", { gitDir }), async () => {
    const inner = await here.share(asking("a step", { gitDir }), async () => "inner")
    const outside = await failureOf(there.share(asking("a step", { gitDir, waitMs: 1 }), async () => {}))
    return [inner, outside.code]
  })
  expect(held).toEqual(["inner", "busy"])
  expect(await there.share(asking("a step", { gitDir, waitMs: 1 }), async () => "free")).toBe("free")
})

test("the lock of a process that was killed is free", async () => {
  const gitDir = await gitFolder("killed")
  const script = join(root, "holder.ts")
  const source = join(import.meta.dir, "directory-locks.ts")
  await writeFile(
    script,
    `import { directoryLocks } from ${JSON.stringify(source)}
const request = { directory: "/w", gitDir: ${JSON.stringify(gitDir)}, command: "decamp restore", waitMs: null, signal: new AbortController().signal, notice: () => {} }
await directoryLocks(() => "killed one", () => Date.now()).hold(request, async () => {
  console.log("held")
  await Bun.sleep(600_000)
})
`,
  )
  const child = Bun.spawn([process.execPath, script], { stdout: "pipe" })
  await child.stdout.getReader().read()
  const refused = await failureOf(locks().hold(asking("decamp pull", { gitDir, waitMs: 1 }), async () => {}))
  expect(refused.message).toMatch(/^decamp restore of killed one \(pid \d+\) works in/)
  child.kill("SIGKILL")
  await child.exited
  expect(await locks().hold(asking("decamp pull", { gitDir, waitMs: 1 }), async () => "done")).toBe("done")
})

test("the place to lock is the top of the repository that holds a folder, also for a linked worktree and for none", async () => {
  const gitDir = await gitFolder("place")
  const top = join(root, "place")
  await mkdir(join(top, "src/deep"), { recursive: true })
  expect(await placeToLock(join(top, "src/deep"))).toEqual({ directory: top, gitDir })
  const linked = join(root, "linked")
  await mkdir(join(gitDir, "worktrees/linked"), { recursive: true })
  await mkdir(linked)
  await writeFile(join(linked, ".git"), `gitdir: ${join(gitDir, "worktrees/linked")}\n`)
  expect(await placeToLock(linked)).toEqual({ directory: linked, gitDir: join(gitDir, "worktrees/linked") })
  expect(await placeToLock(join(root, "fresh"))).toEqual({ directory: join(root, "fresh"), gitDir: null })
})
