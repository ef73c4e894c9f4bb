import { Database } from "bun:sqlite"
import { copyFile, mkdir } from "node:fs/promises"
import { join } from "node:path"
import { sessionRows } from "../../../test/support/opencode-home.ts"
import { addSession, addTurns, makeOpencodeStore, sessionId } from "../../../test/support/opencode-store.ts"
import { agentContract, fenceContract, type FenceWorld } from "../agent.contract.ts"
import type { AgentScope } from "../agent.ts"
import { opencodeAgent } from "./agent.ts"
import { placesOf } from "./places.ts"

async function makeWorld(folder: string): Promise<FenceWorld> {
  const place = async (name: string): Promise<AgentScope> => {
    const topLevel = join(folder, name, "proj")
    await mkdir(topLevel, { recursive: true })
    await makeOpencodeStore(join(folder, name))
    return { env: { HOME: join(folder, name) }, topLevel, excluded: [], rootCommit: "r1", originUrl: null }
  }
  const source = await place("a")
  const target = await place("b")
  const storeOf = (scope: AgentScope): string => placesOf(scope.env).database ?? ""
  let count = 0
  let turns = 2
  const goOn = (scope: AgentScope, id: string): void => {
    const n = Array.from({ length: count }, (_, index) => index + 1).find((each) => sessionId(each) === id) ?? 0
    addTurns(storeOf(scope), { n, directory: scope.topLevel, turns: 1, from: turns++ })
  }
  return {
    agent: opencodeAgent(),
    source,
    target,
    strength: "enforced",
    async addSession(directory = source.topLevel) {
      count += 1
      return addSession(storeOf(source), { n: count, directory, turns: 2 })
    },
    goOn: async (scope, id) => goOn(scope, id),
    snapshot: async (scope) => sessionRows(storeOf(scope)),
    async tryToGoOn(scope, id) {
      try {
        goOn(scope, id)
        return "accepted"
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "SQLITE_CONSTRAINT_TRIGGER") return "refused"
        throw error
      }
    },
    /** A program named opencode that sleeps stands for the process; the question has no answer yet. */
    async beginTurn(scope, id) {
      const program = join(folder, "opencode")
      await copyFile(Bun.which("sleep") ?? "/bin/sleep", program)
      const child = Bun.spawn([program, "60"], { cwd: scope.topLevel })
      const store = storeOf(scope)
      const write = (sql: string, ...values: (string | number)[]): void => {
        const db = new Database(store)
        db.query(sql).run(...values)
        db.close()
      }
      await Bun.sleep(50)
      const question = `msg_f${Date.now().toString(16)}AAAAAAAAAAAAAA`
      const data = JSON.stringify({ role: "user" })
      write("INSERT INTO message VALUES (?, ?, ?, 1, ?)", question, id, Date.now(), data)
      return {
        async [Symbol.asyncDispose]() {
          write("DELETE FROM message WHERE id = ?", question)
          child.kill("SIGKILL")
          await child.exited
        },
      }
    },
    async traces(scope) {
      const db = new Database(storeOf(scope), { readonly: true })
      try {
        return db.query("SELECT type, name, sql FROM sqlite_master ORDER BY name").all()
      } finally {
        db.close()
      }
    },
  }
}

agentContract("opencode", makeWorld)
fenceContract("opencode", makeWorld)
