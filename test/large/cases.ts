/** The three large workspaces of row 14, at any size. */
import { join } from "node:path"
import { userGit } from "../support/checkout.ts"
import {
  appendNoise,
  editSome,
  withLargeFile,
  withLargeHistory,
  withManyFiles,
  type LargeSize,
} from "./large-repositories.ts"
import type { Large } from "./there-and-back.ts"

/** One that is untracked at first; at the box it is committed, then grows. */
export function largeFile(size: LargeSize): Large {
  return {
    make: async (directory) => await withLargeFile(directory, size),
    edit: async (directory) => {
      await userGit(directory, "-c", "core.bigFileThreshold=64m", "add", "large.bin")
      await userGit(directory, "commit", "-qm", "large")
      await appendNoise(join(directory, "large.bin"), 1_000)
    },
  }
}

export function manyFiles(size: LargeSize): Large {
  return { make: async (directory) => await withManyFiles(directory, size), edit: editSome }
}

export function largeHistory(size: LargeSize): Large {
  return {
    make: async (directory) => await withLargeHistory(directory, size),
    edit: async (directory) => {
      await appendNoise(join(directory, "noise.bin"), 1_000)
      await userGit(directory, "commit", "-qam", "two")
    },
  }
}
