import { describe, expect, test } from "bun:test"
import { AppError } from "../protocol/errors.ts"
import { newCheckpointId, newHostId, newIncarnation, newWorkspaceId } from "../protocol/ids.ts"
import { MANIFEST_SCHEMA } from "../protocol/version.ts"
import { parseManifest } from "./manifests.ts"

const OID = "a".repeat(40)
const BLOB = "b".repeat(64)

function manifest(): Record<string, unknown> {
  return {
    schema: MANIFEST_SCHEMA,
    workspace: newWorkspaceId(),
    checkpoint: newCheckpointId(),
    parent: null,
    epoch: 1,
    kind: "sealed",
    createdAtMs: 1,
    creator: { host: newHostId(), incarnation: newIncarnation() },
    contentDigest: BLOB,
    code: {
      objectFormat: "sha1",
      head: OID,
      rootCommit: OID,
      branch: "main",
      upstream: null,
      originUrl: null,
      indexTree: OID,
      worktreeTree: OID,
      snapshot: OID,
      packs: [{ blob: BLOB, snapshot: OID }],
    },
    agents: [],
    sessions: [],
    blobs: [],
    encryption: null,
  }
}

function codeOf(text: string): string {
  try {
    parseManifest(text, "the manifest")
    return "parsed"
  } catch (error) {
    return error instanceof AppError ? error.code : "another error"
  }
}

describe("a manifest from another machine", () => {
  test("is parsed when it is whole", () => {
    expect(codeOf(JSON.stringify(manifest()))).toBe("parsed")
  })

  test.each([
    ["an older one", { schema: 0 }],
    ["a newer one", { schema: MANIFEST_SCHEMA + 1 }],
    ["one without a schema", { schema: undefined }],
  ])("%s is refused with the version and what to do", (_, change) => {
    expect(codeOf(JSON.stringify({ ...manifest(), ...change }))).toBe("manifest_version")
  })

  test.each([
    ["text that is not JSON", "{"],
    [
      "a branch that escapes",
      JSON.stringify({ ...manifest(), code: { ...(manifest()["code"] as object), branch: "-rf" } }),
    ],
    ["an id that is a path", JSON.stringify({ ...manifest(), checkpoint: "../../etc" })],
    [
      "a blob id that is a path",
      JSON.stringify({
        ...manifest(),
        blobs: [{ id: "../x", plainSize: 1, storedSize: 1, storedSha256: BLOB, encoding: "plain" }],
      }),
    ],
    [
      "a negative size",
      JSON.stringify({
        ...manifest(),
        blobs: [{ id: BLOB, plainSize: -1, storedSize: 1, storedSha256: BLOB, encoding: "plain" }],
      }),
    ],
  ])("%s is damaged_data", (_, text) => {
    expect(codeOf(text)).toBe("damaged_data")
  })
})
