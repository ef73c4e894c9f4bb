/** The commands about gateways and signing in as typed. Each is loaded only when it runs. */
import type { Command } from "commander"
import type { Chosen } from "./program.ts"
import { garbageCommands } from "./program-garbage.ts"

type Add = (parent: Command, spec: string, description: string) => Command

export function gatewayCommands(root: Command, chosen: Chosen, add: Add): void {
  const load = async () => await import("./commands/gateways.ts")
  const gateway = root.command("gateway").description("the gateway: which one is in use here; or run one")
  gateway.copyInheritedSettings(root)
  // Never comes here (main.ts picks it); it stands in the help.
  gateway.command("serve").description("run one for a team; DECAMP_GATEWAY names its user socket on its own machine")
  add(gateway, "list", "those that are known here").action(() => {
    chosen.run = async (context) => await (await load()).listGateways(context)
  })
  add(gateway, "add <name> <url>", "make a server known; again: read where its store is now").action(
    (name: string, url: string) => {
      chosen.run = async (context) => await (await load()).addGateway(context, name, url)
    },
  )
  add(gateway, "use <name>", "talk to this one from now on; local is the one inside the daemon").action(
    (name: string) => {
      chosen.run = async (context) => await (await load()).useGateway(context, name)
    },
  )
  add(gateway, "remove <name>", "forget a server, and sign out there").action((name: string) => {
    chosen.run = async (context) => await (await load()).removeGateway(context, name)
  })
  garbageCommands(root, gateway, chosen, add)
  signInCommands(root, chosen, add)
  tokenCommands(root, chosen, add)
}

function signInCommands(root: Command, chosen: Chosen, add: Add): void {
  const load = async () => await import("./commands/login.ts")
  add(root, "login [gateway]", "sign in at the gateway in use, with a code that you confirm in a browser")
    .option("--with-token", "with a token, read from standard input")
    .action((name: string | undefined, options: { withToken?: boolean }) => {
      chosen.run = async (context) => await (await load()).login(context, name ?? null, options)
    })
  add(root, "logout [gateway]", "forget what you signed in with, and have its issuer take it no more").action(
    (name: string | undefined) => {
      chosen.run = async (context) => await (await load()).logout(context, name ?? null)
    },
  )
  add(root, "whoami [gateway]", "who you are at the gateway in use").action((name: string | undefined) => {
    chosen.run = async (context) => await (await load()).whoami(context, name ?? null)
  })
}

function tokenCommands(root: Command, chosen: Chosen, add: Add): void {
  const load = async () => await import("./commands/tokens.ts")
  const list = (): void => {
    chosen.run = async (context) => await (await load()).listTokens(context)
  }
  const tokens = add(root, "tokens", "tokens for CI at the gateway in use: DECAMP_TOKEN takes one").action(list)
  tokens.allowExcessArguments(false)
  add(tokens, "list", "list them (the default)").action(list)
  add(tokens, "create <name>", "make one; it is shown once, on standard output")
    .requiredOption("--days <n>", "how long it is taken")
    .action((name: string, options: { days: string }) => {
      chosen.run = async (context) => await (await load()).createToken(context, name, options)
    })
  add(tokens, "revoke <id>", "from now on it is taken no more").action((id: string) => {
    chosen.run = async (context) => await (await load()).revokeToken(context, id)
  })
}
