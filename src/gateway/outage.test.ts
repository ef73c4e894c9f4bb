import { expect, test } from "bun:test"
import { AppError } from "../protocol/errors.ts"
import { isOutage, overLine, patience } from "./outage.ts"

const lost = new AppError("unreachable", "the line to box was lost (broken pipe)", { details: { mayReturn: true } })
const box = { kind: "ssh", name: "box", root: "me@box" } as const

test("only a line that may come back is waited for", () => {
  expect(isOutage(lost)).toBe(true)
  expect(isOutage(new AppError("unreachable", "there is no ssh on this machine"))).toBe(false)
  expect(isOutage(new AppError("not_allowed", "refused", { details: { mayReturn: true } }))).toBe(false)
})

test("a request to a host over SSH that fails on the way is told as a lost line, with what to try by hand", () => {
  const failure = overLine(box, new AppError("unreachable", "socket closed"))
  expect(failure.message).toBe("the line to box was lost (socket closed)")
  expect(failure.hint).toContain("ssh me@box")
  expect(isOutage(failure)).toBe(true)
})

test("what is no lost line stays as it was: other codes, other kinds of host, what ssh has explained already", () => {
  const refused = new AppError("not_owner", "box does not own shop")
  const explained = new AppError("unreachable", "the address of box can't be found", { details: { mayReturn: true } })
  const gone = new AppError("unreachable", "its daemon does not answer")
  expect(overLine(box, refused)).toBe(refused)
  expect(overLine(box, explained)).toBe(explained)
  expect(overLine({ ...box, kind: "local" }, gone)).toBe(gone)
})

test("each pause is told before it begins, longer than the last; progress counts them anew", async () => {
  const lines: string[] = []
  const tell = (line: string): void => void lines.push(line)
  const patient = patience()
  const startedAt = performance.now()
  expect(await patient.pause(lost, "; the agents stay stopped", tell, () => true)).toBe(true)
  expect(performance.now() - startedAt).toBeGreaterThan(950)
  expect(await patient.pause(lost, "", tell, () => performance.now() - startedAt < 1300)).toBe(false)
  patient.reset()
  expect(await patient.pause(lost, "", tell, () => false)).toBe(false)
  expect(lines).toEqual([
    "the line to box was lost (broken pipe): trying again in 1 s (1 of 8; the agents stay stopped)",
    "the line to box was lost (broken pipe): trying again in 2 s (2 of 8)",
    "the line to box was lost (broken pipe): trying again in 1 s (1 of 8)",
  ])
})

test("who goes away is not kept waiting for the pause to end", async () => {
  const startedAt = performance.now()
  const patient = patience()
  await patient.pause(
    lost,
    "",
    () => {},
    () => false,
  )
  expect(performance.now() - startedAt).toBeLessThan(500)
})

test("eight tries and no more, whoever wants it", async () => {
  const lines: string[] = []
  const patient = patience()
  // Unwanted pauses end at once and count all the same.
  for (let n = 0; n < 8; n += 1)
    await patient.pause(
      lost,
      "",
      (line) => void lines.push(line),
      () => false,
    )
  expect(
    await patient.pause(
      lost,
      "",
      (line) => void lines.push(line),
      () => true,
    ),
  ).toBe(false)
  expect(lines.length).toBe(8)
  expect(lines.at(-1)).toContain("(8 of 8)")
})
