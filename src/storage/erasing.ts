/** All that a tenant has in a store: which workspaces, also those that no database knows, and how one of them is removed whole. */
import { readdir, rm, rmdir } from "node:fs/promises"
import { join } from "node:path"
import { z } from "zod"
import { isMissing } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import { workspaceIdSchema, type TenantId, type WorkspaceId } from "../protocol/ids.ts"
import type { BlobStore, Unfinished } from "./blob-store.ts"
import { s3Document, type S3Client } from "./s3-client.ts"

export interface Erasing {
  /** Workspaces of which anything is there. */
  workspacesOf(tenant: TenantId): Promise<WorkspaceId[]>
  /** Removes everything of a workspace. Nobody may send to it meanwhile: what arrives after the listing stays. */
  eraseWorkspace(tenant: TenantId, workspace: WorkspaceId): Promise<Erased>
}

export interface Erased {
  readonly objects: number
  readonly bytes: number
}

/** As the sweep removes them: nothing looks complete and isn't. */
const KINDS = ["manifests", "blobs", "owners"] as const
const AT_ONCE = 8

/** @param root folder of the store */
export function directoryErasing(root: string, store: BlobStore & Unfinished): Erasing {
  return {
    async workspacesOf(tenant) {
      const names = await readdir(join(root, tenant)).catch((error: unknown): string[] => {
        if (isMissing(error)) return []
        throw error
      })
      return names.flatMap((name) => workspaceIn(name))
    },
    async eraseWorkspace(tenant, workspace) {
      const erased = await eraseObjects(store, tenant, workspace)
      await rm(join(root, tenant, workspace), { recursive: true, force: true })
      // Of the last one the tenant's folder goes too.
      await rmdir(join(root, tenant)).catch(() => {})
      return erased
    },
  }
}

export function s3Erasing(client: S3Client, store: BlobStore & Unfinished): Erasing {
  return {
    workspacesOf: async (tenant) => await foldersBelow(client, `${tenant}/`),
    eraseWorkspace: async (tenant, workspace) => await eraseObjects(store, tenant, workspace),
  }
}

async function eraseObjects(store: BlobStore & Unfinished, tenant: TenantId, workspace: WorkspaceId): Promise<Erased> {
  let [objects, bytes] = [0, 0]
  for (const kind of KINDS) {
    const found = [...(await store.list(`${tenant}/${workspace}/${kind}/`))]
    for (let at = 0; at < found.length; at += AT_ONCE) {
      const some = found.slice(at, at + AT_ONCE)
      await Promise.all(some.map(async ([key]) => await store.delete(key)))
      objects += some.length
      bytes += some.reduce((sum, [, size]) => sum + size, 0)
    }
  }
  await store.dropUnfinished(`${tenant}/${workspace}/`, Date.now() + FUTURE_MS)
  return { objects, bytes }
}

/** The store's clock may be ahead of ours. */
const FUTURE_MS = 3_600_000

const prefixSchema = z.object({ Prefix: z.string() })
const foldersSchema = z.object({
  ListBucketResult: z.object({
    /** One alone is no list to the parser. */
    CommonPrefixes: z.union([z.array(prefixSchema), prefixSchema.transform((one) => [one])]).default([]),
    IsTruncated: z.string().optional(),
    NextContinuationToken: z.string().optional(),
  }),
})

async function foldersBelow(client: S3Client, prefix: string): Promise<WorkspaceId[]> {
  const found: WorkspaceId[] = []
  let token: string | undefined
  do {
    const from: Record<string, string> = token === undefined ? {} : { "continuation-token": token }
    const query = { "list-type": "2", prefix, delimiter: "/", ...from }
    const answer = await client.send({ method: "GET", key: "", query })
    const parsed = foldersSchema.safeParse(s3Document(await answer.text()))
    if (!parsed.success) throw new AppError("internal", "S3 answered a listing that can't be read")
    const { CommonPrefixes, IsTruncated, NextContinuationToken } = parsed.data.ListBucketResult
    found.push(...CommonPrefixes.flatMap(({ Prefix }) => workspaceIn(Prefix.slice(prefix.length, -1))))
    token = IsTruncated === "true" ? NextContinuationToken : undefined
  } while (token !== undefined)
  return found
}

function workspaceIn(name: string): WorkspaceId[] {
  const parsed = workspaceIdSchema.safeParse(name)
  return parsed.success ? [parsed.data] : []
}
