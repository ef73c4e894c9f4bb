import { afterAll, afterEach, describe, expect, test } from "bun:test"
import { mkdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import {
  begin,
  end,
  endAll,
  folder,
  laptop,
  openTo,
  removeAll,
  step,
  upload,
  userOf,
  workspaceOf,
} from "../../test/support/gateway.ts"
import { hostApi, type HostApi } from "../client/gateway-client.ts"
import { unixFetcher, type StepEvent } from "../client/http.ts"
import { streamAnswer } from "../lib/ndjson.ts"
import { socketPath } from "../lib/platform.ts"
import { serveUnix } from "../lib/serve.ts"
import { AppError } from "../protocol/errors.ts"
import type { Word } from "../protocol/handoff.ts"
import { newHostId, newIncarnation } from "../protocol/ids.ts"
import { LOCAL_HOST_SOCKET, localHostSchema } from "../protocol/local-host.ts"
import type { Gateway } from "./start.ts"

const scripted = new Set<{ stop(now: boolean): Promise<void> }>()
afterEach(async () => {
  await endAll()
  for (const server of scripted) await server.stop(true)
  scripted.clear()
})
afterAll(removeAll)

type Act = (word: Word, api: HostApi, incarnation: string) => Promise<"acted" | "nothing" | "closed">

/** A host on a real socket that speaks the protocol and acts by a script; the gateway calls it as it calls any local host. */
async function scriptedHost(gateway: Gateway, name: string, act: Act) {
  const root = await folder("scripted")
  const incarnation = newIncarnation()
  const file = join(root, "state", "host.json")
  const own = {
    schema: 1,
    host: newHostId(),
    name,
    gatewaySocket: gateway.hostSocket,
    token: "x".repeat(43),
    inboundToken: "y".repeat(43),
  }
  await mkdir(join(root, "state", "run"), { recursive: true })
  await writeFile(file, JSON.stringify(own))
  const words: string[] = []
  let greetings = 0
  const socket = socketPath(join(root, "state", "run"), LOCAL_HOST_SOCKET)
  const serve = async (request: Request): Promise<Response> => {
    const { pathname } = new URL(request.url)
    if (request.headers.get("authorization") !== `Bearer ${own.inboundToken}`) return new Response("", { status: 401 })
    if (pathname === "/hello") {
      greetings += 1
      return Response.json({
        host: own.host,
        incarnation,
        version: "0.1.0",
        protocol: 1,
        nowMs: Date.now(),
        platform: "test",
      })
    }
    if (pathname === "/preflight") return Response.json({ notices: ["said by the host"], needs: [], directory: "/d" })
    const word = (await request.json()) as Word
    words.push(word.word)
    return streamAnswer(async (listener) => {
      listener({ type: "notice", text: `word ${word.word}` })
      const { token } = localHostSchema.parse(await Bun.file(file).json())
      return { outcome: await act(word, hostApi(unixFetcher(gateway.hostSocket, { token })), incarnation) }
    })
  }
  let server = await serveUnix(socket, serve)
  scripted.add(server)
  const info = await userOf(gateway).addHost({ kind: "local", name, root })
  return {
    ...info,
    words,
    greetings: () => greetings,
    async away() {
      await server.stop(true)
    },
    async back() {
      server = await serveUnix(socket, serve)
      scripted.add(server)
    },
  }
}

/** Does what each word asks, at once. */
const obedient: Act = async (word, api, incarnation) => {
  const { items } = await api.record(word.workspace)
  const epoch = items.find((item) => item.handoff.id === word.id)?.handoff.epoch ?? 1
  const say = { workspace: word.workspace, incarnation: incarnation as ReturnType<typeof newIncarnation>, epoch }
  if (word.word === "stage") await api.plainStep(word.id, "staged", say)
  if (word.word === "owned") await api.plainStep(word.id, "live", say)
  if (word.word === "abandoned") await api.plainStep(word.id, "undone", say)
  return "acted"
}

/** A push from a laptop that is sealed, so that everything is the target's. */
async function sealedPush(gateway: Gateway, target: { id: string }) {
  const anna = await laptop(gateway)
  const workspace = await workspaceOf(gateway, anna)
  const request = openTo(workspace, anna, { ...anna, host: target.id as typeof anna.host })
  const arriving = { bytes: 1, agents: [], name: "shop", nowMs: Date.now(), backup: false, leaveSessions: true }
  const opened = await userOf(gateway).open({ ...request, preflight: { workspace, arriving, leaving: null } })
  const { manifest, ref } = await upload(anna, workspace, "content", { kind: "sealed" })
  const { checkpoint } = manifest
  await anna.api.checkpointStep(request.id, "sealed", { ...step(anna, workspace), checkpoint, parent: null })
  return { anna, workspace, id: request.id, opened, ref }
}
const never = new AbortController().signal

describe("the gateway drives a target that it can call", () => {
  test("from sealed to live: stage, flip, witness, owned; the states are told as they come", async () => {
    const gateway = await begin()
    const box = await scriptedHost(gateway, "box", obedient)
    const { id, workspace, opened } = await sealedPush(gateway, box)
    expect(opened.notices).toEqual(["said by the host"])
    const events: StepEvent[] = []
    const answer = await userOf(gateway).drive(id, (event) => events.push(event), never)
    expect(answer.handoff).toMatchObject({ state: "live", newEpoch: 2, witnessed: true })
    expect(box.words).toEqual(["stage", "owned"])
    const states = events.flatMap((event) => (event.type === "state" ? [event.state] : []))
    expect(states).toEqual(["sealed", "staged", "owned", "live"])
    expect(events).toContainEqual({ type: "notice", text: "word stage" })
    expect((await userOf(gateway).workspace(workspace)).ownerName).toBe("box")
  })

  test("a host is greeted once, not before each word and the flip", async () => {
    const gateway = await begin()
    const box = await scriptedHost(gateway, "box", obedient)
    const { id } = await sealedPush(gateway, box)
    const before = box.greetings()
    expect((await userOf(gateway).drive(id, () => {}, never)).handoff.state).toBe("live")
    expect(box.words).toEqual(["stage", "owned"])
    expect(box.greetings() - before).toBe(1)
  })

  test("two that drive one row share one driver, and each word is said once", async () => {
    const gateway = await begin()
    const slow: Act = async (...all) => (await Bun.sleep(200), await obedient(...all))
    const box = await scriptedHost(gateway, "box", slow)
    const { id } = await sealedPush(gateway, box)
    const both = await Promise.all([
      userOf(gateway).drive(id, () => {}, never),
      userOf(gateway).drive(id, () => {}, never),
    ])
    expect(both.map((answer) => answer.handoff.state)).toEqual(["live", "live"])
    expect(box.words).toEqual(["stage", "owned"])
  })

  test("who goes away is obeyed after the present word", async () => {
    const gateway = await begin()
    const gone = new AbortController()
    const leaving: Act = async (...all) => {
      if (all[0].word === "stage") gone.abort()
      await Bun.sleep(100)
      return await obedient(...all)
    }
    const box = await scriptedHost(gateway, "box", leaving)
    const { id } = await sealedPush(gateway, box)
    await expect(userOf(gateway).drive(id, () => {}, gone.signal)).rejects.toMatchObject({ code: "interrupted" })
    while (gateway.isBusy()) await Bun.sleep(10)
    expect((await userOf(gateway).handoff(id)).handoff.state).toBe("staged")
    expect(box.words).toEqual(["stage"])
  })

  test("an undone hand-off is told until the target has undone it", async () => {
    const gateway = await begin()
    const box = await scriptedHost(gateway, "box", obedient)
    const { id } = await sealedPush(gateway, box)
    await userOf(gateway).abandon(id)
    const answer = await userOf(gateway).drive(id, () => {}, never)
    expect(answer.handoff).toMatchObject({ state: "abandoned", targetUndone: true, sourceFence: "fenced" })
    expect(box.words).toEqual(["abandoned"])
  })

  test("a target that has forgotten an undone hand-off answers closed, and that is recorded", async () => {
    const gateway = await begin()
    const box = await scriptedHost(gateway, "box", async () => "closed")
    const { id } = await sealedPush(gateway, box)
    await userOf(gateway).abandon(id)
    expect((await userOf(gateway).drive(id, () => {}, never)).handoff.targetUndone).toBe(true)
  })
})

describe("what goes wrong leaves the row where it is", () => {
  test("a target that is away: the failure names it, and a later drive goes on", async () => {
    const gateway = await begin()
    const box = await scriptedHost(gateway, "box", obedient)
    const { id } = await sealedPush(gateway, box)
    await box.away()
    await expect(userOf(gateway).drive(id, () => {}, never)).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringContaining("box"),
    })
    expect((await userOf(gateway).handoff(id)).handoff.state).toBe("sealed")
    await box.back()
    expect((await userOf(gateway).drive(id, () => {}, never)).handoff.state).toBe("live")
  }, 30_000)

  test("a refusal of the target reaches who drives, with its code", async () => {
    const gateway = await begin()
    const box = await scriptedHost(gateway, "box", async () => {
      throw new AppError("no_space", "the disk is full\u001b[31m", { hint: "make room" })
    })
    const { id } = await sealedPush(gateway, box)
    const failure = userOf(gateway).drive(id, () => {}, never)
    await expect(failure).rejects.toMatchObject({
      code: "no_space",
      message: "the disk is full [31m",
      hint: "make room",
    })
    expect((await userOf(gateway).handoff(id)).handoff.state).toBe("sealed")
  })

  test("a blob that is damaged in the store is dropped and the hand-off undone; one that is whole there stays", async () => {
    const gateway = await begin()
    let blob = ""
    const box = await scriptedHost(gateway, "box", async (word, api, incarnation) => {
      if (word.word !== "stage") return await obedient(word, api, incarnation)
      throw new AppError("damaged_data", `blob ${blob} is damaged`, { details: { blob } })
    })
    const { id, ref, workspace } = await sealedPush(gateway, box)
    blob = ref.id
    const path = join(gateway.stateDir, "blobs", "local", workspace, "blobs", ref.id)
    await expect(userOf(gateway).drive(id, () => {}, never)).rejects.toMatchObject({ code: "damaged_data" })
    expect((await userOf(gateway).handoff(id)).handoff.state).toBe("sealed")
    expect(await Bun.file(path).exists()).toBe(true)
    await writeFile(path, Buffer.alloc(ref.storedSize, "!"))
    await userOf(gateway)
      .drive(id, () => {}, never)
      .catch(() => {})
    expect((await userOf(gateway).handoff(id)).handoff.state).toBe("abandoned")
    expect(await Bun.file(path).exists()).toBe(false)
  })

  test("a gateway that starts again drives by itself what rested long enough", async () => {
    const first = await begin()
    const box = await scriptedHost(first, "box", obedient)
    const { id } = await sealedPush(first, box)
    await end(first)
    const again = await begin({ stateDir: first.stateDir, nowMs: () => Date.now() + 60_000 })
    const until = Date.now() + 5000
    while ((await userOf(again).handoff(id)).handoff.state !== "live" && Date.now() < until) await Bun.sleep(20)
    expect((await userOf(again).handoff(id)).handoff.state).toBe("live")
  })

  test("a flip that was recorded but not witnessed before the end is witnessed after it", async () => {
    const first = await begin()
    const box = await scriptedHost(first, "box", obedient)
    const { id, workspace } = await sealedPush(first, box)
    const owner = join(first.stateDir, "blobs", "local", workspace, "owners", "1-2")
    await mkdir(owner, { recursive: true })
    await userOf(first)
      .drive(id, () => {}, never)
      .catch(() => {})
    expect((await userOf(first).handoff(id)).handoff).toMatchObject({ state: "staged", newEpoch: null })
    expect(box.words).toEqual(["stage"])
    await end(first)
    await rm(owner, { recursive: true })
    const again = await begin({ stateDir: first.stateDir })
    expect((await userOf(again).drive(id, () => {}, never)).handoff).toMatchObject({ state: "live", newEpoch: 2 })
  })
})
