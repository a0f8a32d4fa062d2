import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
import { Checkpoints, Watcher } from "effect-periscope"
import { ScriptedSource, VirtualClock } from "effect-periscope/testing"

const run = <A, E>(effect: Effect.Effect<A, E>) => Effect.runPromise(VirtualClock.run(effect))

/** Watches for as long as the script has answers, and tells what came. */
const told = <E>(watch: (tell: (line: string) => Effect.Effect<void>) => Effect.Effect<void, E>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    yield* Effect.timeoutOption(
      watch((line) => Effect.sync(() => void lines.push(line))),
      "1 day"
    )
    return lines
  })

describe("ScriptedSource", () => {
  it("a document comes, changes and goes as its world is played", async () => {
    const world = ScriptedSource.makeWorld<string>()
    const remote = ScriptedSource.remote(world, { replies: () => "answer" })
    const source = ScriptedSource.document(remote, { key: "motd", item: Schema.String })
    const lines = await run(
      Effect.gen(function* () {
        yield* Effect.fork(
          ScriptedSource.play(world, [
            { at: "1 minute", act: ({ set }) => set("motd", "hello") },
            { at: "2 minutes", act: ({ set }) => set("motd", "bye") },
            { at: "1 hour", act: ({ remove }) => remove("motd") }
          ])
        )
        return yield* told((tell) => Watcher.runForEach(source, ({ _tag }) => tell(_tag)))
      })
    )
    assert.deepStrictEqual(lines, ["Added", "Modified", "Removed"])
  })

  it("a listing is paged, calls are recorded with their times, and a call that is not in the script dies", async () => {
    const world = ScriptedSource.makeWorld<number>()
    for (const key of ["a", "b", "c", "d"]) world.set(key, 1)
    const remote = ScriptedSource.remote(world, {
      replies: [{ reply: "answer", afterwards: () => world.set("d", 2) }, "truncated", "answer"]
    })
    const source = ScriptedSource.listing(remote, { item: Schema.Number })
    const lines = await run(
      told((tell) =>
        Effect.provide(
          Watcher.runForEach(source, (change) => tell(`${change._tag} ${change.key}`), {
            interval: "10 seconds",
            checkpoint: "scripted"
          }),
          Checkpoints.layerMemory
        )
      )
    )
    assert.deepStrictEqual(lines, ["Added a", "Added b", "Added c", "Added d"])
    assert.deepStrictEqual(
      remote.calls.slice(0, 4).map(({ at, first }) => [at, first]),
      // one page, the second page broken off, again after the backoff, and the call that nobody expected
      [
        [0, true],
        [0, false],
        [20_000, false],
        [30_000, true]
      ]
    )
    const unexpected = await Effect.runPromiseExit(remote.page())
    assert.isTrue(Exit.isFailure(unexpected))
    assert.match(String(unexpected), /call \d+ \(page\) is not in the script/)
  })

  it("a log gives its rows behind a cursor, each once and in order", async () => {
    const world = ScriptedSource.makeWorld<string>()
    for (const row of ["one", "two", "three", "four", "five"]) world.append(row)
    const remote = ScriptedSource.remote(world, { replies: (call) => (call.n === 2 ? "hang" : "answer") })
    const source = ScriptedSource.log(remote, { item: Schema.String, limit: 2 })
    const lines = await run(
      told((tell) =>
        Watcher.runForEach(source, (change) => tell(`${change.key} ${change._tag === "Added" ? change.value : "?"}`))
      )
    )
    assert.deepStrictEqual(lines, ["1 one", "2 two", "3 three", "4 four", "5 five"])
  })

  it("a fatal error ends the watch with its type", async () => {
    const remote = ScriptedSource.remote(ScriptedSource.makeWorld<number>(), { replies: ["answer", "fatal"] })
    const source = ScriptedSource.listing(remote, { item: Schema.Number })
    const error = await run(Effect.flip(Watcher.runForEach(source, () => Effect.void)))
    assert.strictEqual(error._tag, "FatalRemoteError")
  })

  it("a partial page names the rest as the next one, and a listing over it is complete", async () => {
    const world = ScriptedSource.makeWorld<number>()
    for (const key of ["a", "b", "c", "d", "e"]) world.set(key, 1)
    const remote = ScriptedSource.remote(world, { pageSize: 4, replies: ["partial", "answer"] })
    const pages: Array<ReadonlyArray<string>> = []
    const told = {
      ...remote,
      page: (after?: string) => Effect.tap(remote.page(after), ({ items }) => pages.push(items.map(({ key }) => key)))
    }
    const changes = await run(Watcher.once(ScriptedSource.listing(told, { item: Schema.Number })))
    assert.deepStrictEqual(pages, [
      ["a", "b"],
      ["c", "d", "e"]
    ])
    assert.deepStrictEqual(
      changes.map(({ key }) => key),
      ["a", "b", "c", "d", "e"]
    )
  })

  it("W5 a call that hangs ends with a typed error, in each of the three", async () => {
    const world = ScriptedSource.makeWorld<number>()
    const hanging = () => ScriptedSource.remote(world, { replies: ["hang"] })
    const item = Schema.Number
    for (const source of [
      ScriptedSource.document(hanging(), { key: "a", item }),
      ScriptedSource.listing(hanging(), { item }),
      ScriptedSource.log(hanging(), { item })
    ]) {
      const error = await run(Effect.flip(Watcher.once(source)))
      assert.deepStrictEqual([error._tag, "reason" in error && error.reason], ["RemoteError", "Timeout"])
    }
  })

  it("a remote without a script always answers", async () => {
    const world = ScriptedSource.makeWorld<number>()
    world.set("a", 1)
    const source = ScriptedSource.document(ScriptedSource.remote(world), { key: "a", item: Schema.Number })
    assert.deepStrictEqual(
      (await run(Watcher.once(source))).map(({ _tag }) => _tag),
      ["Added"]
    )
  })
})
