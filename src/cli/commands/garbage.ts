/** `decamp gateway gc`, `retention`, `pin`, `unpin`, `account delete`: what stays in the store of the gateway in use, and what goes. */
import type { z } from "zod"
import { userApi, type UserApi } from "../../client/gateway-client.ts"
import { garbageApi } from "../../client/garbage-client.ts"
import type { Fetcher } from "../../client/http.ts"
import { signInApi } from "../../client/sign-in-client.ts"
import { AppError, toAppError } from "../../protocol/errors.ts"
import { DELETE_WORD, keepingSchema, type Keeping, type KeepingAnswer, type Swept } from "../../protocol/garbage.ts"
import type {
  accountDeletedOutputSchema,
  gcOutputSchema,
  pinOutputSchema,
  retentionOutputSchema,
} from "../../protocol/garbage-output.ts"
import { findCheckpointsRequestSchema, type WorkspaceView } from "../../protocol/gateway-api.ts"
import type { CheckpointId } from "../../protocol/ids.ts"
import type { LogOutput } from "../../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { chosenGateway } from "../../sign-in/gateways-file.ts"
import { userFetcher } from "../../sign-in/server.ts"
import { signOut } from "../../sign-in/sign-out.ts"
import { connect, endIdle, givenToken } from "../connect.ts"
import { answer, callerOf, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { askWord } from "../prompts.ts"
import { bytesText, oneLine, table } from "../render.ts"

export async function gc(context: Context, { dryRun = false }: { readonly dryRun?: boolean }): Promise<number> {
  const { user } = await connect(context)
  const workspaces = await garbageApi(user.fetcher).gc({ dryRun })
  const hasFound = workspaces.some(({ checkpoints, blobs }) => checkpoints + blobs > 0)
  const result = hasFound ? (dryRun ? "planned" : "done") : "nothing_to_do"
  const output: z.infer<typeof gcOutputSchema> = { schema: OUTPUT_SCHEMA, result, workspaces: [...workspaces] }
  answer(context, output, () => gcText(workspaces, dryRun))
  return EXIT_DONE
}

function gcText(workspaces: readonly Swept[], isDryRun: boolean): string {
  if (workspaces.length === 0) return "no workspaces"
  const sum = (of: (each: Swept) => number): number => workspaces.reduce((total, each) => total + of(each), 0)
  const [checkpoints, blobs, bytes] = [
    sum((each) => each.checkpoints),
    sum((each) => each.blobs),
    sum((each) => each.bytes),
  ]
  const verb = isDryRun ? "would go" : "gone"
  const rows = workspaces
    .filter((each) => each.checkpoints + each.blobs > 0 || each.problem !== null)
    .map((each) => [oneLine(each.name), each.problem === null ? sweptText(each) : `nothing: ${oneLine(each.problem)}`])
  const total =
    checkpoints + blobs === 0 ? "✔ there is no garbage" : `✔ ${verb}: ${sweptText({ checkpoints, blobs, bytes })}`
  return [total, ...table(rows)].join("\n")
}

function sweptText({ checkpoints, blobs, bytes }: Pick<Swept, "checkpoints" | "blobs" | "bytes">): string {
  return `${count(checkpoints, "checkpoint")}, ${count(blobs, "blob")}, ${bytesText(bytes)}`
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`
}

export interface RetentionOptions {
  readonly last?: string
  readonly days?: string
  readonly default?: boolean
  readonly workspace?: string
}

export async function retention(
  context: Context,
  directory: string | undefined,
  options: RetentionOptions,
): Promise<number> {
  const change = changeOf(options)
  const { user, workspace } = await workspaceOf(context, directory, options.workspace)
  const api = garbageApi(user.fetcher)
  const before = await api.retention(workspace.id)
  const wanted = change === null ? before.own : { ...before.own, ...change }
  const isSame = wanted.keepLast === before.own.keepLast && wanted.keepDays === before.own.keepDays
  const after = isSame ? before : await api.setRetention(workspace.id, wanted)
  const result = isSame ? "nothing_to_do" : "done"
  const output: z.infer<typeof retentionOutputSchema> = { schema: OUTPUT_SCHEMA, result, ...after }
  answer(context, output, () => retentionText(after))
  return EXIT_DONE
}

/** Null: nothing shall change. @throws {AppError} usage */
function changeOf({ last, days, default: isDefault = false }: RetentionOptions): Partial<Keeping> | null {
  if (isDefault && (last !== undefined || days !== undefined)) {
    throw new AppError("usage", "--default goes with neither --last nor --days")
  }
  if (isDefault) return { keepLast: null, keepDays: null }
  const change = {
    ...(last === undefined ? {} : { keepLast: numberOf(last) }),
    ...(days === undefined ? {} : { keepDays: numberOf(days) }),
  }
  if (!keepingSchema.partial().safeParse(change).success) {
    throw new AppError("usage", "--last takes a number from 1 on, --days one from 0 on", {
      hint: "for example: decamp retention --last 20 --days 30",
    })
  }
  return Object.keys(change).length === 0 ? null : change
}

const numberOf = (text: string): number => (/^\d{1,6}$/.test(text) ? Number(text) : Number.NaN)

function retentionText({ workspace, own, inForce, pinned }: KeepingAnswer): string {
  const whose = own.keepLast === null && own.keepDays === null ? ", as the gateway does it for all" : ""
  const last = inForce.keepLast === 1 ? "the last checkpoint stays" : `the last ${inForce.keepLast} checkpoints stay`
  const days = inForce.keepDays === 0 ? "older ones go" : `so do all of ${count(inForce.keepDays, "day")}`
  return [
    `${oneLine(workspace)}: ${last}, ${days}${whose}`,
    "  the newest, and those that a hand-off needs, stay in any case",
    ...(pinned.length === 0 ? [] : [`  pinned: ${pinned.map((id) => id.slice(0, SHORT_ID)).join(", ")}`]),
  ].join("\n")
}

/** As `decamp log` shows it. */
const SHORT_ID = 15

export interface PinOptions {
  readonly dir?: string
  readonly workspace?: string
}

export async function pin(context: Context, what: string, isPinned: boolean, options: PinOptions): Promise<number> {
  const { user, workspace } = await workspaceOf(context, options.dir, options.workspace)
  const checkpoint = await checkpointOf(user, workspace, what)
  const hasChanged = await garbageApi(user.fetcher).pin(workspace.id, { checkpoint, isPinned })
  const output: z.infer<typeof pinOutputSchema> = {
    schema: OUTPUT_SCHEMA,
    result: hasChanged ? "done" : "nothing_to_do",
    workspace: workspace.name,
    checkpoint,
    isPinned,
  }
  const words = isPinned ? "stays, however old it gets" : "goes when its time has come"
  answer(context, output, () => `✔ ${checkpoint.slice(0, SHORT_ID)} of ${oneLine(workspace.name)} ${words}`)
  return EXIT_DONE
}

async function checkpointOf(
  user: UserApi,
  { id, name }: LogOutput["workspace"],
  prefix: string,
): Promise<CheckpointId> {
  const request = findCheckpointsRequestSchema.safeParse({ workspace: id, prefix })
  if (!request.success) {
    throw new AppError("usage", `${JSON.stringify(prefix)} is not the id of a checkpoint`, {
      hint: "decamp log lists them; their beginning is enough, cp_ and six digits at least",
    })
  }
  const [found, another] = await user.findCheckpoints(request.data)
  if (found === undefined) {
    throw new AppError("not_found", `there is no checkpoint ${prefix} of ${name}`, { hint: "decamp log lists them" })
  }
  if (another !== undefined) throw new AppError("usage", `several checkpoints of ${name} begin with ${prefix}`)
  return found.checkpoint.id
}

async function workspaceOf(
  context: Context,
  directory: string | undefined,
  named: string | undefined,
): Promise<{ readonly user: UserApi; readonly workspace: LogOutput["workspace"] }> {
  const { local, user } = await connect(context)
  const { workspace } = await local.log({ ...callerOf(context, directory), workspace: named ?? null })
  return { user, workspace }
}

export async function deleteAccount(context: Context, { confirm }: { readonly confirm?: string }): Promise<number> {
  const choice = await chosenGateway(context.env, context.cwd)
  const server = choice.kind === "server" ? choice : null
  if (server !== null) await endIdle(context, `is a host of ${server.name}`)
  const fetcher: Fetcher =
    server === null
      ? (await connect(context)).user.fetcher
      : userFetcher({ url: server.url, env: context.env, given: () => givenToken(context) })
  const name = server?.name ?? "this gateway"
  const whole = await whatGoes(fetcher, name)
  const word = confirm ?? (context.canAsk ? await askWord(DELETE_WORD, whole.lines, whole.question) : null)
  if (word !== DELETE_WORD) {
    throw new AppError("usage", "nothing was deleted", {
      hint: `type ${DELETE_WORD} when asked, or: decamp account delete --confirm ${DELETE_WORD}`,
      details: { workspaces: whole.views.map(({ workspace }) => workspace.name) },
    })
  }
  const erased = await garbageApi(fetcher).deleteAccount()
  const notices = server === null ? await endHost(context) : await forgetSignIn(context, server.url)
  notices.push(
    ...(erased.workspaces === 0 ? [] : ["decamp push --new-workspace makes a checkout a workspace again"]),
    ...(server === null ? [] : ["another machine that is still signed in begins a new, empty account: decamp logout"]),
  )
  const output: z.infer<typeof accountDeletedOutputSchema> = {
    schema: OUTPUT_SCHEMA,
    result: "done",
    ...erased,
    notices,
  }
  const gone = `${count(erased.workspaces, "workspace")}, ${count(erased.objects, "object")}, ${bytesText(erased.bytes)}`
  answer(context, output, () => [`✔ ${oneLine(name)} has nothing of you any more: ${gone}`, ...notices].join("\n  "))
  return EXIT_DONE
}

async function forgetSignIn({ env }: Context, url: string): Promise<string[]> {
  const { problem } = await signOut(env, url)
  return problem === null ? [] : [`what you signed in with could not be revoked: ${problem}`]
}

/** This machine was a host of the account: its daemon makes itself known again when it begins anew. */
async function endHost(context: Context): Promise<string[]> {
  try {
    await endIdle(context, "was a host of the account")
    return []
  } catch (error) {
    return [`${toAppError(error).message}; decamp stop, when it is idle`]
  }
}

interface WhatGoes {
  readonly views: readonly WorkspaceView[]
  readonly question: string
  readonly lines: readonly string[]
}

async function whatGoes(fetcher: Fetcher, name: string): Promise<WhatGoes> {
  const [me, views] = [await signInApi(fetcher).me(), await userApi(fetcher).workspaces()]
  const lines = [
    `${count(views.length, "workspace")} with every checkpoint, record and token:`,
    ...table(views.map(({ workspace, ownerName }) => [oneLine(workspace.name), `on ${oneLine(ownerName)}`])),
    "Checkouts stay where they are. Sessions of a workspace that is elsewhere stay locked here for ever:",
    "bring it home first (decamp pull --migrate). Nothing of this can be undone.",
  ]
  return { views, question: `Delete all that ${name} has of ${oneLine(me.subject)}?`, lines }
}
