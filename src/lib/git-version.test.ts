import { expect, test } from "bun:test"
import { gitFitness } from "./git-version.ts"

test.each([
  ["git version 2.39.5", "git 2.39.5"],
  ["git version 2.29.0.windows.1", "git 2.29.0.windows.1"],
  ["git version 2.50.1 (Apple Git-155)", "git 2.50.1"],
  ["git version 3.0.0", "git 3.0.0"],
])("%p will do", (printed, shown) => expect(gitFitness(printed)).toMatchObject({ problem: null, shown }))

test.each([
  ["git version 2.28.1", "has git version 2.28.1"],
  ["git version 1.8.3.1", "has git version 1.8.3.1"],
  ["", "has no git"],
  ["command not found", "has no git"],
])("%p will not", (printed, problem) =>
  expect(gitFitness(printed)).toMatchObject({ problem, hint: "install git 2.29 or newer" }),
)

test.each([
  ["2.39.3", true],
  ["2.39.4", false],
  ["2.34.1", true],
  ["2.45.0", true],
  ["2.45.1", false],
  ["2.46.0", false],
  ["3.0.0", false],
])("the hole of 2024 is named for %s: %p", (version, hasIt) =>
  expect(gitFitness(`git version ${version}`).hole !== null).toBe(hasIt),
)
