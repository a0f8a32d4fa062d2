import * as FileSystem from "@effect/platform/FileSystem"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import { afterAll, assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { createHash } from "node:crypto"
import * as NFS from "node:fs"
import { hostname } from "node:os"
import { dirname, join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import * as Checkpoints from "../../src/core/Checkpoints.js"
import { suite } from "../../src/testing/CheckpointsContract.js"
import type { Fault } from "./checkpointsFaults.js"
import { dies, failsOnce, faulty, stops } from "./checkpointsFaults.js"
import { isWhole, nextSave } from "./checkpointsSaves.js"

type Store = Checkpoints.Checkpoints["Type"]

const node = Layer.merge(NodeFileSystem.layer, NodePath.layer)

const temporary = Effect.flatMap(FileSystem.FileSystem, (fs) =>
  fs.makeTempDirectoryScoped({ prefix: "periscope-" })
).pipe(Effect.provide(node))

const layerOf = (directory: string) => Layer.provide(Checkpoints.layerFileSystem({ directory }), node)

const layerWith = (directory: string, fault: Fault) =>
  Checkpoints.layerFileSystem({ directory }).pipe(
    Layer.provide(
      Layer.map(node, (context) =>
        Context.add(context, FileSystem.FileSystem, faulty(Context.get(context, FileSystem.FileSystem), fault))
      )
    )
  )

const opened = (directory: string, fault?: Fault) =>
  Effect.map(Layer.build(fault === undefined ? layerOf(directory) : layerWith(directory, fault)), (context) =>
    Context.get(context, Checkpoints.Checkpoints)
  )

const within = <A, E>(directory: string, use: (store: Store) => Effect.Effect<A, E, Scope.Scope>, fault?: Fault) =>
  Effect.scoped(Effect.flatMap(opened(directory, fault), use))

const recordIn = (directory: string) =>
  within(directory, (store) => Effect.map(store.claim("stream"), ({ stored }) => Option.getOrUndefined(stored)))

/** All files below a directory, by their path in it. */
const filesIn = (directory: string): ReadonlyArray<string> =>
  NFS.readdirSync(directory, { recursive: true, encoding: "utf8" }).filter((name) =>
    NFS.statSync(join(directory, name)).isFile()
  )

suite(
  { describe, it },
  {
    name: "directory",
    guarantees: { survives: "crash", fence: "store" },
    make: Effect.map(temporary, (directory) => layerOf(`${directory}/made/for this`))
  }
)

suite(
  { describe, it },
  {
    name: "key-value store in a directory",
    guarantees: { survives: "backend", fence: "process" },
    make: Effect.map(temporary, (directory) =>
      Layer.suspend(() =>
        Layer.provide(
          Checkpoints.layerKeyValueStore,
          Layer.provide(Layer.orDie(Layer.fresh(KeyValueStore.layerFileSystem(directory))), node)
        )
      )
    )
  }
)

/** Saves the revisions `from` to `to` and notes the last one that was said to be saved. */
const saving = (from: number, to: number, note: (rev: number) => void) => (store: Store) =>
  Effect.gen(function* () {
    const { save } = yield* store.claim("stream")
    for (let rev = from; rev <= to; rev++) {
      yield* save(nextSave(rev))
      note(rev)
    }
  })

/** What a record may consist of after a claim has swept it: its head and the parts of three blocks. */
const isSwept = (directory: string, stored: Checkpoints.Stored) => {
  const parts = Array.from(stored.blocks.values()).filter((bytes) => bytes.length > 4096).length
  const names = filesIn(directory).map((name) => name.replace(/.*\//, "").replace(/[.].*/, ""))
  assert.deepStrictEqual(names.sort(), ["head", ...Array.from({ length: parts }, () => "part"), "unlocked"])
}

describe("Checkpoints in a directory, crashing", () => {
  // Goal: any crash leaves the old or the new record. Method: the file system dies at its k-th operation, for every k,
  // once before that operation and once in the middle of it.
  for (const torn of [false, true]) {
    it.live(
      `a crash ${torn ? "in the middle of" : "before"} any operation leaves the old or the new record`,
      () =>
        Effect.gen(function* () {
          let crashes = 0
          for (let k = 0; ; k++) {
            const directory = yield* temporary
            yield* within(
              directory,
              saving(1, 4, () => {})
            )
            let said = 4
            const run = within(
              directory,
              saving(5, 7, (rev) => (said = rev)),
              dies(k, torn)
            )
            const exit = yield* Effect.exit(run)
            const stored = yield* recordIn(directory)
            assert.isDefined(stored, `no record after a crash at operation ${k}`)
            assert.isTrue(isWhole(stored), `torn after a crash at operation ${k}`)
            assert.isTrue(stored.rev === said || stored.rev === said + 1, `${stored.rev} after ${said} at ${k}`)
            isSwept(directory, stored)
            if (Exit.isSuccess(exit)) break
            crashes++
          }
          assert.isAbove(crashes, 50)
        }).pipe(Effect.scoped),
      60_000
    )

    it.live(
      `a full disk at any operation, failing ${torn ? "half way" : "at once"}, is Unavailable and over with the next save`,
      () =>
        Effect.gen(function* () {
          let failures = 0
          for (let k = 0; ; k++) {
            const directory = yield* temporary
            yield* within(
              directory,
              saving(1, 4, () => {})
            )
            let rev = 4
            let isHit = false
            const fault = failsOnce(k, torn)
            const result = yield* Effect.either(
              within(
                directory,
                (store) =>
                  Effect.gen(function* () {
                    const { save } = yield* store.claim("stream")
                    for (let n = 0; n < 3; n++) {
                      const saved = yield* Effect.either(save(nextSave(++rev)))
                      if (Either.isRight(saved)) continue
                      assert.strictEqual(saved.left.reason, "Unavailable")
                      assert.include(saved.left.message, "no space left")
                      // As the watcher does: the same contents again, under the next revision.
                      const again = { ...nextSave(rev), rev: rev + 1 }
                      yield* save(again)
                      yield* save({ ...nextSave(rev), rev: rev + 2, put: [], head: "over" })
                      rev += 2
                      return
                    }
                  }),
                (n, ...rest) => {
                  isHit ||= n === k
                  return fault(n, ...rest)
                }
              )
            )
            if (Either.isLeft(result)) assert.strictEqual(result.left.reason, "Unavailable")
            const stored = yield* recordIn(directory)
            assert.isDefined(stored)
            assert.isTrue(stored.head === "over" ? stored.rev === rev && stored.blocks.size === 3 : isWhole(stored))
            isSwept(directory, stored)
            if (!isHit) break
            failures++
          }
          assert.isAbove(failures, 50)
        }).pipe(Effect.scoped),
      60_000
    )
  }

  // Goal: an owner that was given up for dead harms nothing when it wakes up. Method: it is stopped around its k-th
  // operation, its lock is deleted by hand, a second owner takes over, and then the first one goes on.
  for (const when of ["before", "after"] as const) {
    it.live(
      `an owner that wakes up ${when} any operation leaves the record of its successor alone`,
      () =>
        Effect.gen(function* () {
          let fenced = 0
          let accepted = 0
          for (let k = 0; ; k++) {
            const directory = yield* temporary
            yield* within(
              directory,
              saving(1, 6, () => {})
            )
            const gate = yield* Deferred.make<void>()
            const stopped = yield* Deferred.make<void>()
            let isArmed = false
            let n = 0
            const fault = stops(k, when, Effect.zipRight(Deferred.succeed(stopped, undefined), Deferred.await(gate)))
            const scope = yield* Scope.make()
            const first = yield* Scope.extend(
              opened(directory, (_, ...rest) => (isArmed ? fault(n++, ...rest) : rest[0])),
              scope
            )
            const claim = yield* Scope.extend(first.claim("stream"), scope)
            isArmed = true
            const late = yield* Effect.fork(Effect.either(claim.save(nextSave(7))))
            yield* Effect.raceFirst(Deferred.await(stopped), Fiber.await(late))
            const isOver = !(yield* Deferred.isDone(stopped))
            for (const name of NFS.readdirSync(directory)) {
              if (name.startsWith("lock.")) NFS.rmSync(join(directory, name))
            }
            const rev = yield* within(directory, (store) =>
              Effect.gen(function* () {
                const second = yield* store.claim("stream")
                assert.isAbove(second.fence, claim.fence)
                const stored = Option.getOrThrow(second.stored)
                assert.isTrue(isWhole(stored))
                yield* Deferred.succeed(gate, undefined)
                const result = yield* Fiber.join(late)
                if (Either.isLeft(result)) assert.strictEqual(result.left.reason, "Fenced")
                else assert.strictEqual(stored.rev, 7, `accepted, but not seen by the successor, at operation ${k}`)
                if (Either.isLeft(result)) fenced++
                else accepted++
                const again = yield* Effect.flip(claim.save(nextSave(9)))
                assert.strictEqual(again.reason, "Fenced")
                // What the successor has read is still there, whether it saves or not.
                const seen = yield* Effect.scoped(store.claim("stream"))
                assert.isTrue(isWhole(Option.getOrThrow(seen.stored)))
                assert.strictEqual(Option.getOrThrow(seen.stored).rev, stored.rev)
                if (k % 2 === 0) return stored.rev
                const third = yield* store.claim("stream")
                yield* third.save(nextSave(stored.rev + 1))
                return stored.rev + 1
              })
            ).pipe(Effect.ensuring(Deferred.succeed(gate, undefined)))
            yield* Scope.close(scope, Exit.void)
            const last = yield* recordIn(directory)
            assert.isDefined(last)
            assert.isTrue(isWhole(last))
            assert.strictEqual(last.rev, rev)
            if (isOver) break
          }
          assert.isAbove(fenced, 8)
          assert.isAbove(accepted, 0)
        }).pipe(Effect.scoped),
      60_000
    )
  }

  it.live("an interrupted save is finished", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const begun = yield* Deferred.make<void>()
      let isArmed = false
      const fault: Fault = (_, operation) =>
        isArmed ? Effect.zipRight(Deferred.succeed(begun, undefined), operation) : operation
      yield* within(
        directory,
        (store) =>
          Effect.gen(function* () {
            const { save } = yield* store.claim("stream")
            isArmed = true
            const fiber = yield* Effect.fork(save(nextSave(1)))
            yield* Deferred.await(begun)
            yield* Fiber.interrupt(fiber)
          }),
        fault
      )
      const stored = yield* recordIn(directory)
      assert.isTrue(stored !== undefined && isWhole(stored))
    }).pipe(Effect.scoped)
  )
})

describe("Checkpoints in a directory, damaged", () => {
  it.live(
    "any missing or flipped byte is Corrupt, and the damaged file is left as it was",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        yield* within(directory, (store) =>
          Effect.flatMap(store.claim("stream"), ({ save }) =>
            save({ rev: 1, head: "secret-head", put: [["b", new Uint8Array(5000).fill(7)]], drop: [] })
          )
        )
        const store = yield* opened(directory)
        const fails = (file: string, bytes: Uint8Array | undefined) =>
          Effect.gen(function* () {
            const old = NFS.readFileSync(file)
            if (bytes === undefined) NFS.rmSync(file)
            else NFS.writeFileSync(file, bytes)
            const error = yield* Effect.flip(Effect.scoped(store.claim("stream")))
            assert.include(error.message, `${directory}/`)
            assert.notInclude(JSON.stringify(error), "secret-head")
            if (bytes !== undefined)
              assert.deepStrictEqual(new Uint8Array(NFS.readFileSync(file)), new Uint8Array(bytes))
            NFS.writeFileSync(file, old)
            return error.reason
          })
        const names = filesIn(directory)
        const head = join(directory, names.find((name) => name.includes("head.")) ?? "")
        const part = join(directory, names.find((name) => name.includes("part.")) ?? "")
        for (const [file, step] of [
          [head, 1],
          [part, 97]
        ] as const) {
          const bytes = new Uint8Array(NFS.readFileSync(file))
          for (let at = 0; at < bytes.length; at += step) {
            assert.strictEqual(yield* fails(file, bytes.slice(0, at)), "Corrupt", `cut at ${at}`)
            const flipped = bytes.slice()
            flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8))
            assert.strictEqual(yield* fails(file, flipped), "Corrupt", `flipped at ${at}`)
          }
          assert.strictEqual(yield* fails(file, Uint8Array.from([...bytes, 10])), "Corrupt")
        }
        assert.strictEqual(yield* fails(part, undefined), "Corrupt")
        const sum = createHash("sha256").update("2\n{}").digest("hex")
        const newer = new TextEncoder().encode(`effect-periscope checkpoint 2 ${sum}\n{}`)
        assert.strictEqual(yield* fails(head, newer), "UnknownFormat")
        const other = filesIn(directory).length
        // Another record's head under this name.
        yield* Effect.scoped(
          Effect.flatMap(store.claim("other"), ({ save }) => save({ rev: 1, head: "", put: [], drop: [] }))
        )
        const strange = filesIn(directory).find((name) => name.startsWith("other-"))
        assert.strictEqual(filesIn(directory).length, other + 1)
        assert.strictEqual(yield* fails(head, NFS.readFileSync(join(directory, strange ?? ""))), "Corrupt")
        // An explicit reset works although the record cannot be read.
        NFS.writeFileSync(head, "")
        assert.strictEqual((yield* Effect.flip(store.list)).reason, "Corrupt")
        assert.isTrue(yield* store.remove("stream"))
        assert.deepStrictEqual(yield* store.list, ["other"])
      }).pipe(Effect.scoped),
    60_000
  )

  // Goal: a power cut, which no test here can make, finds everything on disk in the right order.
  it.live("a save syncs what it wrote before it refers to it, and writes a small document once", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const names: Array<string> = []
      yield* within(
        directory,
        (store) =>
          Effect.gen(function* () {
            const { save } = yield* store.claim("stream")
            yield* save(nextSave(1))
            const inOne = ["open", "writeAll", "sync", "exists", "rename", "open", "sync", "exists"]
            names.length = 0
            yield* save({ rev: 2, head: "{}", put: [["small", new Uint8Array(2000)]], drop: [] })
            assert.deepStrictEqual(names, inOne)
            names.length = 0
            yield* save({ rev: 3, head: "{}", put: [["large", new Uint8Array(9000)]], drop: ["b1"] })
            assert.deepStrictEqual(names, ["open", "writeAll", "sync", "open", "sync", ...inOne, "remove"])
          }),
        (_, operation, name) => {
          names.push(name)
          return operation
        }
      )
    }).pipe(Effect.scoped)
  )

  it.live("only the owner may read the files", () =>
    Effect.gen(function* () {
      const directory = `${yield* temporary}/a/b`
      const store = yield* opened(directory)
      const { save } = yield* store.claim("stream")
      yield* save(nextSave(1))
      yield* save(nextSave(2))
      const all = NFS.readdirSync(directory, { recursive: true, encoding: "utf8" })
      assert.isAbove(all.length, 3)
      for (const name of ["", ...all]) {
        const stat = NFS.statSync(join(directory, name))
        assert.strictEqual(stat.mode & 0o777, stat.isDirectory() ? 0o700 : 0o600, name)
      }
    }).pipe(Effect.scoped)
  )

  it.live("a directory that cannot be used is Unavailable and named", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const file = join(directory, "file")
      NFS.writeFileSync(file, "")
      for (const bad of [file, join(file, "below"), "/sys/periscope", "/proc/periscope"]) {
        const error = yield* Effect.flip(Effect.scoped(opened(bad)))
        assert.strictEqual(error.reason, "Unavailable")
        assert.include(error.message, `"${bad}"`)
      }
      if (process.getuid?.() === 0) {
        console.log("a directory without permission to write is not tried: root may write everywhere")
        return
      }
      const closed = join(directory, "closed")
      NFS.mkdirSync(closed, { mode: 0o500 })
      const error = yield* Effect.flip(Effect.scoped(opened(closed)))
      assert.strictEqual(error.message, `cannot write to checkpoint directory "${closed}": permission denied`)
    }).pipe(Effect.scoped)
  )
})

const root = fileURLToPath(new URL("../..", import.meta.url))

/** The child as plain JavaScript: a loader for TypeScript would make each of its many starts ten times slower. */
const script = (() => {
  const built = join(root, ".generated", `checkpoints-${process.pid}`)
  afterAll(() => NFS.rmSync(built, { recursive: true, force: true }))
  const compilerOptions = { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, verbatimModuleSyntax: true }
  const build = (file: string): string => {
    const target = join(built, `${file}.js`)
    if (NFS.existsSync(target)) return target
    const source = NFS.readFileSync(join(root, `${file}.ts`), "utf8")

    const { outputText } = ts.transpileModule(source, { compilerOptions })
    NFS.mkdirSync(dirname(target), { recursive: true })
    NFS.writeFileSync(target, outputText)
    for (const [, needed = ""] of outputText.matchAll(/ from "(\..*)\.js"/g)) build(join(dirname(file), needed))
    return target
  }
  return build("test/core/checkpointsChild")
})()

/** A child with its lines; it is killed with the scope. */
const child = (...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const process_ = spawn(process.execPath, [script, ...args], {
        stdio: ["pipe", "pipe", "inherit"]
      })
      const exited = new Promise<void>((resolve) => process_.once("exit", () => resolve()))
      const lines: Array<string> = []
      let wake = () => {}
      createInterface({ input: process_.stdout }).on("line", (line) => {
        lines.push(line)
        wake()
      })
      /** The next line that was not yet taken. */
      const next = Effect.async<string>((resume) => {
        const give = () => {
          const line = lines.shift()
          if (line === undefined) return
          wake = () => {}
          resume(Effect.succeed(line))
        }
        wake = give
        give()
      })
      const tell = (line: string) => Effect.sync(() => void process_.stdin.write(`${line}\n`))
      const kill = Effect.zipRight(
        Effect.sync(() => process_.kill("SIGKILL")),
        Effect.promise(() => exited)
      )
      return { pid: process_.pid ?? 0, lines, next, tell, kill }
    }),
    ({ kill }) => kill
  )

const holder = Effect.tap(child("hold"), ({ next }) => Effect.map(next, (line) => assert.strictEqual(line, "ready")))

const lockIn = (directory: string) => NFS.readdirSync(directory).find((name) => name.startsWith("lock.")) ?? ""

describe("Checkpoints in a directory, locked", () => {
  it.live(
    "a directory belongs to one process, and to the next one at once when that is killed",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const first = yield* holder
        const second = yield* holder
        yield* first.tell(directory)
        assert.strictEqual(yield* first.next, "open")
        const error = yield* Effect.flip(Effect.scoped(opened(directory)))
        assert.strictEqual(error.reason, "Locked")
        assert.strictEqual(
          error.message,
          `checkpoint directory "${directory}" is used by process ${first.pid}: stop that one, or give this one a directory of its own`
        )
        yield* second.tell(directory)
        assert.include(yield* second.next, "Locked")
        yield* first.tell("close")
        assert.strictEqual(yield* first.next, "closed")
        yield* second.tell(directory)
        assert.strictEqual(yield* second.next, "open")
        yield* second.kill
        yield* within(directory, (store) => store.list)
      }).pipe(Effect.scoped),
    30_000
  )

  it.live("a second layer of the same process is locked out until the first is closed", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      yield* within(directory, () =>
        Effect.gen(function* () {
          const error = yield* Effect.flip(Effect.scoped(opened(`${directory}/../${directory.replace(/.*\//, "")}`)))
          assert.strictEqual(error.reason, "Locked")
          assert.include(error.message, "is open in this process already")
          yield* Effect.scoped(opened(`${directory}/other`))
        })
      )
      yield* within(directory, (store) => store.list)
    }).pipe(Effect.scoped)
  )

  it.live(
    "a killed process that nobody has buried holds nothing",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        // The shell becomes a sleep, which never asks for its dead child.
        const shell = spawn(
          "sh",
          ["-c", `"$0" "$1" save "$2" & echo $!; exec sleep 60`, process.execPath, script, directory],
          {
            stdio: ["ignore", "pipe", "inherit"]
          }
        )
        yield* Effect.addFinalizer(() => Effect.sync(() => shell.kill("SIGKILL")))
        const lines = createInterface({ input: shell.stdout })
        const pid = yield* Effect.async<number>((resume) => {
          let pid = 0
          lines.on("line", (line) => {
            if (pid === 0) pid = Number(line)
            else resume(Effect.succeed(pid))
          })
        })
        assert.strictEqual((yield* Effect.flip(Effect.scoped(opened(directory)))).reason, "Locked")
        process.kill(pid, "SIGKILL")
        const stat = `/proc/${pid}/stat`
        while (NFS.existsSync(stat) && !/\) Z /.test(NFS.readFileSync(stat, "utf8"))) yield* Effect.sleep(5)
        assert.isTrue(process.kill(pid, 0), "the zombie has to be there for this test")
        yield* within(directory, (store) => store.list)
      }).pipe(Effect.scoped),
    30_000
  )

  it.live("locks of the dead are told from those of the living", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const read = (pid: number | string) =>
        NFS.readFileSync(`/proc/${pid}/stat`, "utf8").replace(/.*\) /, "").split(" ")
      const boot = NFS.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
      const alive = { pid: process.ppid, host: hostname(), boot, started: read(process.ppid)[19] ?? "", token: "x" }
      const cases: ReadonlyArray<readonly [what: string, owner: unknown, expected: string | undefined]> = [
        ["another living process", alive, `is used by process ${process.ppid}`],
        ["a process whose number was given again", { ...alive, started: "1" }, undefined],
        ["a process of before the reboot", { ...alive, boot: "other" }, undefined],
        ["a process with our number", { ...alive, pid: process.pid, started: read("self")[19] }, undefined],
        ["a number nobody has", { ...alive, pid: 4194305 }, undefined],
        ["another host", { ...alive, host: "elsewhere", pid: 4194305 }, `on host "elsewhere"`],
        ["an unknown start", { ...alive, started: "" }, `is used by process ${process.ppid}`],
        ["nothing", "", "has a lock that cannot be read"],
        ["null", null, "has a lock that cannot be read"]
      ]
      let generation = 0
      for (const [what, owner, expected] of cases) {
        yield* within(directory, () => Effect.sync(() => (generation = Number(lockIn(directory).slice(5)))))
        const file = join(directory, `lock.${generation + 1}`)
        NFS.writeFileSync(file, owner === "" ? "" : JSON.stringify(owner))
        const result = yield* Effect.either(Effect.scoped(opened(directory)))
        if (expected === undefined) assert.isTrue(Either.isRight(result), what)
        else {
          assert.isTrue(Either.isLeft(result), what)
          if (Either.isRight(result)) return
          assert.strictEqual(result.left.reason, "Locked")
          assert.include(result.left.message, expected)
          assert.include(result.left.message, directory)
          if (what === "another host" || what === "nothing") assert.include(result.left.message, `delete "${file}"`)
          NFS.rmSync(file)
        }
      }
    }).pipe(Effect.scoped)
  )

  it.live("fences grow although all lock files were deleted", () =>
    Effect.gen(function* () {
      const directory = yield* temporary
      const fences: Array<number> = []
      for (let round = 1; round < 5; round++) {
        yield* within(directory, (store) =>
          Effect.gen(function* () {
            const claim = yield* store.claim("stream")
            fences.push(claim.fence)
            yield* claim.save(nextSave(round))
          })
        )
        for (const name of NFS.readdirSync(directory))
          if (name.startsWith("unlocked.")) NFS.rmSync(join(directory, name))
      }
      assert.deepStrictEqual(
        fences,
        Array.from(fences).sort((a, b) => a - b)
      )
      assert.strictEqual(new Set(fences).size, 4)
    }).pipe(Effect.scoped)
  )

  const stale = (directory: string, generation: number) => {
    const owner = { pid: 4194305, host: hostname(), boot: "", started: "", token: "dead" }
    NFS.writeFileSync(join(directory, `lock.${generation}`), JSON.stringify(owner))
  }

  it.live(
    "of many starters after a crash one wins",
    () =>
      Effect.gen(function* () {
        for (let round = 0; round < 50; round++) {
          const directory = yield* temporary
          if (round % 5 !== 0) stale(directory, 7)
          const results = yield* Effect.scoped(
            Effect.forEach(
              Array.from({ length: 8 }, (_, n) => n),
              (n) => Effect.zipRight(Effect.sleep((round * n) % 7), Effect.either(opened(directory))),
              { concurrency: "unbounded" }
            )
          )
          assert.strictEqual(results.filter(Either.isRight).length, 1, `round ${round}`)
          for (const result of results) if (Either.isLeft(result)) assert.strictEqual(result.left.reason, "Locked")
        }
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "of many processes after a crash one wins",
    () =>
      Effect.gen(function* () {
        const starters = yield* Effect.all([holder, holder, holder, holder], { concurrency: "unbounded" })
        const parent = yield* temporary
        const wins = starters.map(() => 0)
        for (let round = 0; round < 40; round++) {
          const directory = join(parent, `${round}`)
          NFS.mkdirSync(directory)
          if (round % 5 !== 0) stale(directory, 3)
          for (const { tell } of starters) yield* tell(directory)
          const answers = yield* Effect.forEach(starters, ({ next }) => next, { concurrency: "unbounded" })
          assert.strictEqual(answers.filter((answer) => answer === "open").length, 1, answers.join("\n"))
          assert.strictEqual(answers.filter((answer) => answer.startsWith("Locked")).length, 3, answers.join("\n"))
          wins[answers.indexOf("open")]! += 1
        }
        process.stderr.write(`checkpoint lock races won by each of four processes: ${wins.join(", ")}\n`)
      }).pipe(Effect.scoped),
    60_000
  )
})

const killsPerStream = 32
const streams = 2

describe("Checkpoints in a directory, killed", () => {
  // Goal: kill -9 at any instant leaves the old or the new record, never one older than what was said to be saved.
  // Method: a child saves as fast as it can; what the kill interrupted is read off the files it left.
  it.live(
    `${killsPerStream * streams} kills in a stream of saves lose nothing`,
    () =>
      Effect.gen(function* () {
        const windows = { idle: 0, part: 0, head: 0, sweep: 0 }
        let total = 0
        const stream = Effect.gen(function* () {
          const directory = yield* temporary
          let floor = 0
          for (let round = 0; round < killsPerStream; round++) {
            const saver = yield* child("save", directory)
            assert.strictEqual(yield* saver.next, `claimed ${floor}`)
            // Spread over some ten saves, by the golden ratio instead of by chance.
            yield* Effect.sleep(1 + ((round * 0.618) % 1) * 120)
            yield* saver.kill
            const said = saver.lines.map((line) => /^saved (\d+)$/.exec(line)?.[1])
            assert.isFalse(said.includes(undefined), saver.lines.join("\n"))
            const acknowledged = Number(said.at(-1) ?? floor)
            total += said.length
            windows[windowOf(directory)]++
            const stored = yield* recordIn(directory)
            assert.isTrue(stored === undefined ? acknowledged === 0 : isWhole(stored))
            floor = stored?.rev ?? 0
            assert.isTrue(floor === acknowledged || floor === acknowledged + 1, `${floor} after ${acknowledged}`)
            if (stored !== undefined) isSwept(directory, stored)
          }
        })
        yield* Effect.all(
          Array.from({ length: streams }, () => stream),
          { concurrency: "unbounded" }
        )
        process.stderr.write(
          `checkpoint kills by what they interrupted, in ${total} saves: ${JSON.stringify(windows)}\n`
        )
        assert.isAbove(windows.part + windows.sweep, 0)
        assert.isAbove(windows.head, 0)
      }).pipe(Effect.scoped),
    180_000
  )
})

/** What the killed process was about: writing a part, writing the head, deleting dropped parts, or between these. */
const windowOf = (directory: string): "idle" | "part" | "head" | "sweep" => {
  const names = filesIn(directory).map((name) => name.replace(/.*\//, ""))
  if (names.some((name) => name.startsWith("temp."))) return "head"
  const head = filesIn(directory).find((name) => name.includes("/head."))
  if (head === undefined) return "idle"
  const [, body = "{}"] = NFS.readFileSync(join(directory, head), "utf8").split("\n")
  const kept = new Set(JSON.parse(body).blocks.map((entry: ReadonlyArray<unknown>) => entry[1]))
  const orphans = names.filter((name) => name.startsWith("part.") && !kept.has(name))
  if (orphans.length === 0) return "idle"
  return orphans.some((name) => Number(name.split(".")[2]) > JSON.parse(body).rev) ? "part" : "sweep"
}

describe("Checkpoints in a directory, measured", () => {
  it.live(
    "saves a second",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporary
        const store = yield* opened(directory)
        const rates: Array<string> = []
        const measure = (name: string, count: number, length: number) =>
          Effect.gen(function* () {
            const { save } = yield* store.claim(name)
            const start = performance.now()
            for (let rev = 1; rev <= count; rev++) {
              yield* save({ rev, head: "{}", put: [[`b${rev}`, new Uint8Array(length)]], drop: [`b${rev - 1}`] })
            }
            rates.push(`${name} ${Math.round((count / (performance.now() - start)) * 1000)}/s`)
          })
        yield* measure("one block of 1 KiB", 200, 1024)
        yield* measure("one block of 16 KiB", 100, 16_384)
        const start = performance.now()
        for (let n = 0; n < 200; n++) {
          for (const [file, flag] of [
            [join(directory, "temp.raw"), "w"],
            [directory, "r"]
          ] as const) {
            const open = NFS.openSync(file, flag, 0o600)
            if (flag === "w") NFS.writeSync(open, new Uint8Array(1600))
            NFS.fsyncSync(open)
            NFS.closeSync(open)
            if (flag === "w") NFS.renameSync(file, join(directory, "temp.renamed"))
          }
        }
        rates.push(`write, sync, rename, sync by hand ${Math.round(200_000 / (performance.now() - start))}/s`)
        process.stderr.write(`checkpoint saves: ${rates.join(", ")}\n`)
      }).pipe(Effect.scoped),
    60_000
  )
})
