/** Whether the gateway lives, and whether it can do its work: for whoever sends requests to it or starts it again. */
import type { Hono } from "hono"
import { sql } from "kysely"
import { toAppError } from "../protocol/errors.ts"
import { workspaceIdSchema } from "../protocol/ids.ts"
import { ownerKey } from "../storage/keys.ts"
import { LOCAL_TENANT } from "./auth/sign-in.ts"
import type { Services } from "./services.ts"

/** A part that takes longer to answer is not there. */
const ANSWER_MS = 3000
/** Asking more often than that asks nobody. */
const FRESH_MS = 1000

export interface Health {
  /** Requests are still answered, new ones shall go elsewhere. */
  drain(): void
}

type Problems = Readonly<Record<string, string>>

/** `/livez`: this process answers. `/readyz`: database and store do too, and it is not about to end; 503 with what is wrong otherwise. */
export function mountHealth(app: Hono, services: Services): Health {
  let isDraining = false
  let last: { readonly atMs: number; readonly problems: Promise<Problems> } | null = null
  app.get("/livez", (context) => context.text("ok\n"))
  app.get("/readyz", async (context) => {
    if (last === null || Date.now() - last.atMs > FRESH_MS) last = { atMs: Date.now(), problems: problemsOf(services) }
    const problems = isDraining ? { gateway: "it is about to end" } : await last.problems
    const isReady = Object.keys(problems).length === 0
    return context.json({ ready: isReady, problems }, isReady ? 200 : 503)
  })
  return { drain: () => (isDraining = true) }
}

/** An object that nobody ever writes: its absence is an answer too. */
const PROBE = ownerKey(LOCAL_TENANT, workspaceIdSchema.parse(`ws_${"0".repeat(24)}`), 0, 0)

async function problemsOf({ db, store, log }: Services): Promise<Problems> {
  const asked = {
    database: async () => await sql`select 1`.execute(db),
    store: async () => await store.head(PROBE),
  }
  const found = await Promise.all(
    Object.entries(asked).map(async ([name, ask]) => {
      try {
        await inTime(ask())
        return []
      } catch (error) {
        const { code, message } = toAppError(error)
        log("a part of the gateway does not answer", { part: name, code, message })
        // Where things are is nobody's affair who has not signed in.
        return [[name, "does not answer"] as const]
      }
    }),
  )
  return Object.fromEntries(found.flat())
}

async function inTime(work: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_MS} ms`)), ANSWER_MS)
  })
  try {
    await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
