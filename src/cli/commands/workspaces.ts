/** `decamp workspaces`: every workspace of the user. */
import type { WorkspaceView } from "../../protocol/gateway-api.ts"
import type { WorkspacesOutput } from "../../protocol/output.ts"
import { OUTPUT_SCHEMA } from "../../protocol/version.ts"
import { connect } from "../connect.ts"
import { answer, type Context } from "../context.ts"
import { EXIT_DONE } from "../exit.ts"
import { workspacesText } from "../render.ts"

export async function workspaces(context: Context): Promise<number> {
  const { user } = await connect(context)
  const output = workspacesOutput(await user.workspaces())
  answer(context, output, () => workspacesText(output, Date.now()))
  return EXIT_DONE
}

const CLOSED = new Set(["done", "abandoned", "superseded"])

export function workspacesOutput(views: readonly WorkspaceView[]): WorkspacesOutput {
  return {
    schema: OUTPUT_SCHEMA,
    workspaces: views.map(({ workspace, ownerName, ownerDirectory, checkpoint, sessionCount, handoff }) => ({
      id: workspace.id,
      name: workspace.name,
      owner: { host: ownerName, directory: ownerDirectory },
      epoch: workspace.epoch,
      checkpoint: checkpoint === null ? null : { id: checkpoint.id, kind: checkpoint.kind },
      checkpointAtMs: checkpoint?.createdAtMs ?? null,
      sessions: sessionCount,
      handoff: handoff === null || CLOSED.has(handoff.state) ? null : handoff.state,
    })),
  }
}
