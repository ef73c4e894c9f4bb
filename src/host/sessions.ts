/** `sessions export` and `sessions import`: one session as a portable file, by hand and without a hand-off. */
import { stat } from "node:fs/promises"
import { join } from "node:path"
import { openRepository } from "../checkpoint/repository.ts"
import { privateFolder } from "../lib/files.ts"
import { AppError } from "../protocol/errors.ts"
import type { sessionExportRequestSchema, sessionImportRequestSchema } from "../protocol/local-api.ts"
import type { sessionFileOutputSchema } from "../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../protocol/version.ts"
import type { z } from "zod"
import type { ImportedSession } from "../agents/agent.ts"
import { scopeOf, type HostAgent } from "./agents.ts"
import type { Daemon } from "./daemon.ts"

type FileOutput = z.infer<typeof sessionFileOutputSchema>

/** @throws {AppError} unknown_session, not_a_repository */
export async function exportSession(
  daemon: Daemon,
  request: z.infer<typeof sessionExportRequestSchema>,
): Promise<FileOutput> {
  const repository = await openRepository(request.directory)
  const scope = await scopeOf(repository, request.env)
  for (const agent of daemon.agents.all) {
    if (!(await agent.sessions(scope)).some((session) => session.id === request.id)) continue
    const written = await agent.exportFile(scope, request.id, request.file)
    return fileOutput(agent, request.file, repository.topLevel, written)
  }
  throw new AppError("unknown_session", `no session ${request.id} belongs to ${repository.topLevel}`, {
    hint: "decamp sessions lists them",
  })
}

/** What the store held before is kept in the state folder, so that an import by hand can be looked into later. */
export async function importSession(
  daemon: Daemon,
  request: z.infer<typeof sessionImportRequestSchema>,
): Promise<FileOutput> {
  const repository = await openRepository(request.directory)
  const scope = await scopeOf(repository, request.env)
  await stat(request.file).catch((cause: unknown) => {
    throw new AppError("not_found", `${request.file} can't be read`, {
      cause,
      hint: "name a file that decamp sessions export wrote",
    })
  })
  for (const agent of daemon.agents.all) {
    if (!(await agent.recognizes(request.file))) continue
    const undo = await privateFolder(join(daemon.stateFolder, "imports", `${daemon.nowMs()}-${agent.name}`))
    return fileOutput(agent, request.file, repository.topLevel, await agent.importFile(scope, request.file, undo))
  }
  throw new AppError("damaged_data", `${request.file} is not a session file of any known agent`, {
    hint: "name a file that decamp sessions export wrote",
  })
}

function fileOutput(
  agent: HostAgent,
  file: string,
  directory: string,
  sessions: readonly ImportedSession[],
): FileOutput {
  return {
    schema: OUTPUT_SCHEMA,
    result: "done",
    file,
    directory,
    sessions: sessions.map(({ id, outcome, reason, undo }) => ({
      agent: agent.name,
      id,
      title: "",
      outcome,
      ...(reason === undefined ? {} : { reason }),
      ...(undo === undefined ? {} : { undo }),
    })),
  }
}
