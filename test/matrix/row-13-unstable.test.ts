import { expect, setDefaultTimeout, test } from "bun:test"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { AppError, toAppError } from "../../src/protocol/errors.ts"
import { cleanlinessOf, userGit } from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld, type World } from "../support/code-world.ts"
import { lines, plainRepository, write } from "./there-and-back.ts"

setDefaultTimeout(180_000)

/** Runs a shell loop while work goes on, and ends it by its pid. */
async function during<T>(top: string, script: string, work: () => Promise<T>): Promise<T> {
  const child = Bun.spawn(["sh", "-c", script], { cwd: top, stdout: "pipe", stderr: "ignore" })
  try {
    await child.stdout.getReader().read()
    return await work()
  } finally {
    child.kill("SIGKILL")
    await child.exited
  }
}

async function readBlob(top: string, name: string): Promise<string> {
  return await userGit(top, "show", name)
}

async function sent(world: World, top: string, script: string) {
  const journey = newJourney()
  const captured = await during(top, script, async () => await leave(world, journey, top))
  const there = join(world.root, "there")
  await arrive(world, journey, there)
  expect(await cleanlinessOf(top, [world.scratch])).toEqual([])
  return { ...captured, there }
}

test("row 13: a file that grows all the time ends the capture after a few tries, as a true beginning of it, and is listed", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await plainRepository(top)
  await write(top, { "b.txt": "edited\n" })
  const { code, notTravelling, there } = await sent(
    world,
    top,
    'n=0; : >grows; echo on; while :; do n=$((n+1)); echo "line $n" >>grows; done',
  )
  expect(notTravelling.filter(({ kind }) => kind === "unstable").map(({ path }) => path)).toEqual(["grows"])
  const captured = await readBlob(top, `${code.worktreeTree}:grows`)
  expect((await readFile(join(top, "grows"), "utf8")).startsWith(captured)).toBe(true)
  expect(await readFile(join(there, "grows"), "utf8")).toBe(captured)
  expect(await readFile(join(there, "b.txt"), "utf8")).toBe("edited\n")
})

test("row 13: a tracked file that is replaced all the time holds one of the contents that it had, whole", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await plainRepository(top)
  await writeFile(join(top, ".git/info/exclude"), "*.swap\n")
  const script =
    'echo on; while :; do for w in x y z; do i=0; while [ $i -lt 200 ]; do echo "$w $i"; i=$((i+1)); done >one.swap; mv one.swap a.txt; done; done'
  const { code } = await sent(world, top, script)
  const captured = await readBlob(top, `${code.worktreeTree}:a.txt`)
  const whole = ["x", "y", "z"].map((word) => Array.from({ length: 200 }, (_, at) => `${word} ${at}\n`).join(""))
  expect([...whole, `${lines("a")}more\n`]).toContain(captured)
})

test("row 13: files that appear and vanish all the time neither fail the capture nor leave half a file", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await plainRepository(top)
  const script =
    'mkdir -p churn; echo on; n=0; while :; do n=$(((n+1)%40)); printf "whole\\n" >churn/$n; rm -f churn/$(((n+20)%40)); rm -rf folder$((n%5)); mkdir -p folder$(((n+2)%5))/deep; : >folder$(((n+2)%5))/deep/x; done'
  const { code, there } = await sent(world, top, script)
  const names = (await userGit(top, "ls-tree", "-r", "--name-only", code.worktreeTree)).trim().split("\n")
  expect(names).toContain("a.txt")
  for (const name of names.filter((each) => each.startsWith("churn/"))) {
    expect(["whole\n", ""]).toContain(await readFile(join(there, name), "utf8"))
  }
})

test("row 13: tracked files that vanish and come back all the time: what is captured of them is whole", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await plainRepository(top)
  const script = "echo on; while :; do for f in a b c d; do mv $f.txt $f.gone; mv $f.gone $f.txt; done; done"
  const { code, there } = await sent(world, top, script)
  const names = (await userGit(top, "ls-tree", "--name-only", code.worktreeTree)).trim().split("\n")
  expect(names).toContain("run.sh")
  for (const name of names.filter((each) => /^[bcd]\.(txt|gone)$/.test(each))) {
    expect(await readFile(join(there, name), "utf8")).toBe(lines(name.charAt(0)))
  }
})

test("row 13: edits, staging and commits in a loop beside the capture give a checkpoint that arrives, or a clear error", async () => {
  await using world = await newWorld()
  const top = join(world.root, "top")
  await plainRepository(top)
  const identity = "-c user.name=Ada -c user.email=ada@example.com"
  const script = `echo on; n=0; while :; do n=$((n+1)); echo $n >a.txt; git add a.txt; git ${identity} commit -qm $n; sleep 0.2; done`
  const journey = newJourney()
  for (let number = 0; number < 4; number += 1) {
    const result = await during(top, script, async () => await leave(world, journey, top)).catch(toAppError)
    await Bun.spawn(["sh", "-c", "rm -f .git/*.lock .git/refs/heads/*.lock"], { cwd: top }).exited
    if (result instanceof AppError) expect(result.code).toBe("busy")
    else await arrive(world, journey, join(world.root, "there"))
  }
})
