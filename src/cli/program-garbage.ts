/** The commands about what stays in the store and what goes, as typed. Each is loaded only when it runs. */
import type { Command } from "commander"
import type { PinOptions, RetentionOptions } from "./commands/garbage.ts"
import type { Chosen } from "./program.ts"

type Add = (parent: Command, spec: string, description: string) => Command

export function garbageCommands(root: Command, gateway: Command, chosen: Chosen, add: Add): void {
  const load = async () => await import("./commands/garbage.ts")
  add(gateway, "gc", "remove what no checkpoint that stays needs, in all your workspaces; it is done each day anyway")
    .option("--dry-run", "say what would go; remove nothing")
    .action((options: { dryRun?: boolean }) => {
      chosen.run = async (context) => await (await load()).gc(context, options)
    })
  add(root, "retention [dir]", "how many checkpoints of a workspace stay in the store, and for how long")
    .option("--last <n>", "so many of the newest stay, whatever their age")
    .option("--days <n>", "all that are younger stay")
    .option("--default", "as the gateway does it for all")
    .option("--workspace <name>", "which workspace, by name or id")
    .action((dir: string | undefined, options: RetentionOptions) => {
      chosen.run = async (context) => await (await load()).retention(context, dir, options)
    })
  for (const isPinned of [true, false]) {
    const [name, what] = isPinned
      ? ["pin <checkpoint>", "a checkpoint stays in the store, however old it gets"]
      : ["unpin <checkpoint>", "a checkpoint goes when its time has come, as the others do"]
    add(root, name, what)
      .option("--dir <dir>", "of the workspace of this directory (default: the current one)")
      .option("--workspace <name>", "which workspace, by name or id")
      .action((checkpoint: string, options: PinOptions) => {
        chosen.run = async (context) => await (await load()).pin(context, checkpoint, isPinned, options)
      })
  }
  const account = root.command("account").description("what the gateway in use has of you").copyInheritedSettings(root)
  add(account, "delete", "remove all of it: every checkpoint, record and token; checkouts on your machines stay")
    .option("--confirm <word>", "the word that is asked for on a terminal")
    .action((options: { confirm?: string }) => {
      chosen.run = async (context) => await (await load()).deleteAccount(context, options)
    })
}
