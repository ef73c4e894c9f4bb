/** One row of the matrix on its way: to a fresh directory, to a warm one at an older checkpoint, and home again. */
import { expect } from "bun:test"
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import type { Captured } from "../../src/checkpoint/code.ts"
import { toAppError, type AppError } from "../../src/protocol/errors.ts"
import {
  cleanlinessOf,
  pictureOf,
  refsOutsideDecamp,
  tryGit,
  userGit,
  type PictureOptions,
} from "../support/checkout.ts"
import { arrive, leave, newJourney, newWorld, type CaptureChoices, type World } from "../support/code-world.ts"

export interface Places {
  /** Where the state was made. */
  readonly top: string
  /** A directory that did not exist. */
  readonly fresh: string
  /** A directory that was at the checkpoint before the state was made. */
  readonly warm: string
  readonly world: World
}

export interface Row {
  /** What was there one checkpoint earlier; absent: {@link plainRepository}. */
  readonly before?: (top: string, world: World) => Promise<void>
  readonly state: (top: string, world: World) => Promise<void>
  readonly picture?: PictureOptions
  readonly choices?: CaptureChoices
  /** More to look at where it arrived; it must leave the three places as they are. */
  readonly arrived?: (places: Places, captured: Captured, notices: readonly string[]) => Promise<void>
  /** Work at the fresh place before it goes home; absent: an edit and a new file. */
  readonly change?: (fresh: string, world: World) => Promise<void>
  /** More to look at after it came home. */
  readonly home?: (places: Places, captured: Captured) => Promise<void>
}

/** Makes the state, and sends it there and back; every place must then show the same picture as the place it came from. */
export async function thereAndBack(row: Row): Promise<void> {
  await using world = await newWorld()
  const places: Places = {
    top: join(world.root, "top"),
    fresh: join(world.root, "f/fresh"),
    warm: join(world.root, "warm"),
    world,
  }
  const { top, fresh, warm } = places
  const journey = newJourney()
  const look = async (place: string): Promise<unknown> => await pictureOf(place, row.picture)

  await (row.before ?? plainRepository)(top, world)
  await leave(world, journey, top, row.choices)
  await arrive(world, journey, warm)
  expect(await look(warm)).toEqual(await look(top))

  await row.state(top, world)
  const refs = await refsOutsideDecamp(top)
  const source = await look(top)
  const captured = await leave(world, journey, top, row.choices)
  expect(await look(top)).toEqual(source)
  expect(await refsOutsideDecamp(top)).toBe(refs)
  expect(await cleanlinessOf(top, [world.scratch])).toEqual([])

  const notices = await arrive(world, journey, fresh)
  expect(await look(fresh)).toEqual(source)
  await arrive(world, journey, warm)
  expect(await look(warm)).toEqual(source)
  await row.arrived?.(places, captured, notices)

  await (row.change ?? plainEdit)(fresh, world)
  const changed = await look(fresh)
  const back = await leave(world, journey, fresh, row.choices)
  expect(await look(fresh)).toEqual(changed)
  await arrive(world, journey, top)
  expect(await look(top)).toEqual(changed)
  await arrive(world, journey, warm)
  expect(await look(warm)).toEqual(changed)
  await row.home?.(places, back)
}

/** Two commits on `main`. */
export async function plainRepository(top: string): Promise<void> {
  await mkdir(top, { recursive: true })
  await userGit(top, "init", "-q", "-b", "main")
  await write(top, {
    "a.txt": lines("a"),
    "b.txt": lines("b"),
    "c.txt": lines("c"),
    "d.txt": lines("d"),
    "run.sh": "#!/bin/sh\n",
    "src/deep/e.txt": lines("e"),
    "src/deep/f.txt": lines("f"),
    "src/g.txt": lines("g"),
  })
  await userGit(top, "add", "-A")
  await userGit(top, "commit", "-qm", "one")
  await write(top, { "a.txt": `${lines("a")}more\n` })
  await userGit(top, "commit", "-qam", "two")
}

async function plainEdit(top: string): Promise<void> {
  await write(top, { "made there/new.txt": "new\n", "made there/too.txt": "too\n" })
}

export function lines(word: string): string {
  return Array.from({ length: 12 }, (_, at) => `${word} ${at}\n`).join("")
}

export async function write(top: string, files: Readonly<Record<string, string | Uint8Array>>): Promise<void> {
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(top, path)), { recursive: true })
    await writeFile(join(top, path), content)
  }
}

export async function link(top: string, path: string, target: string): Promise<void> {
  await mkdir(dirname(join(top, path)), { recursive: true })
  await symlink(target, join(top, path))
}

export async function mode(top: string, path: string, bits: number): Promise<void> {
  await chmod(join(top, path), bits)
}

/** Path below a top whose name holds any bytes. */
export function bytes(top: string, ...parts: (string | readonly number[])[]): Buffer {
  return Buffer.concat([
    Buffer.from(`${top}/`),
    ...parts.map((part) => (typeof part === "string" ? Buffer.from(part) : Buffer.from(part))),
  ])
}

/** A copy has other inodes and ctimes; without them git would take every file of it for changed. */
const COPIED = {
  GIT_CONFIG_COUNT: "2",
  GIT_CONFIG_KEY_0: "core.checkStat",
  GIT_CONFIG_VALUE_0: "minimal",
  GIT_CONFIG_KEY_1: "core.trustctime",
  GIT_CONFIG_VALUE_1: "false",
}
const AT = {
  ...COPIED,
  GIT_AUTHOR_DATE: "1700000000 +0000",
  GIT_COMMITTER_DATE: "1700000000 +0000",
  GIT_EDITOR: "true",
}

/** Git with a fixed time, so that two directories make the same commits; a non-zero exit is a value. */
export async function fixedGit(
  top: string,
  ...args: string[]
): Promise<{ readonly exitCode: number; readonly text: string }> {
  const { exitCode, stdout, stderr } = await tryGit(top, args, { env: AT })
  return { exitCode, text: `${stdout.toString("utf8")}${stderr}` }
}

/** A copy of a directory with all its bits and times. */
export async function copyOf(directory: string, name: string): Promise<string> {
  const copy = `${directory}-${name}`
  const { exitCode } = await Bun.spawn(["cp", "-a", directory, copy]).exited.then((code) => ({ exitCode: code }))
  if (exitCode !== 0) throw new Error(`cp of ${directory} ended with ${exitCode}`)
  return copy
}

/** Git commands in copies of both places end alike: same exit code, same picture. Answers that picture and the exit codes. */
export async function sameResult(
  { top, fresh, warm }: Places,
  name: string,
  commands: readonly (readonly string[])[],
  options: PictureOptions = {},
): Promise<{
  readonly codes: readonly number[]
  readonly picture: Record<string, unknown>
  readonly directory: string
}> {
  const results = []
  for (const place of [top, fresh, warm]) {
    const directory = await copyOf(place, name)
    const codes: number[] = []
    for (const command of commands) codes.push((await fixedGit(directory, ...command)).exitCode)
    results.push({ codes, picture: await pictureOf(directory, options), directory })
  }
  const [source, ...others] = results
  if (source === undefined) throw new Error("no place")
  for (const { codes, picture } of others)
    expect({ codes, picture }).toEqual({ codes: source.codes, picture: source.picture })
  return source
}

/** The error that work ends with; it must end with one. */
export async function failureOf(work: Promise<unknown>): Promise<AppError> {
  try {
    await work
  } catch (error) {
    return toAppError(error)
  }
  throw new Error("it did not fail")
}
