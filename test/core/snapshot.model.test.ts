import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import * as block from "../../src/core/block.js"
import * as keySet from "../../src/core/keySet.js"
import type { Versions } from "../../src/core/page.js"
import * as page from "../../src/core/page.js"
import { Bytes, fingerprint, isPacked, packText, Reader, unpackText, viewOf } from "../../src/core/packedText.js"
import * as snapshot from "../../src/core/snapshot.js"

const finished = <A>(work: Generator<void, A>): A => {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}

/** Numbers that look random and are the same for a seed. */
const numbers = (seed: number) => {
  let state = seed | 0
  return (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    return Math.floor(((state >>> 0) / 2 ** 32) * below)
  }
}

const planes = ["a", "b", "/", "\n", "\u0000", "é", "\ud7ff", "\ue000", "\uffff", "\u{10000}", "\u{10ffff}"]

type Random = (below: number) => number

const hex = (random: Random, length: number): string => Array.from({ length }, () => random(16).toString(16)).join("")

/** Names as they are found in buckets, and some that are not. */
const names: Readonly<Record<string, (random: Random, index: number) => string>> = {
  counter: (_, index) => `logs/2026/11/21/part-${String(index).padStart(9, "0")}.parquet`,
  uuid: (random) => [8, 4, 4, 4, 12].map((length) => hex(random, length)).join("-"),
  planes: (random) => Array.from({ length: random(6) }, () => planes[random(planes.length)]!).join(""),
  long: (random, index) => `${"x".repeat(1000 + random(24))}${index % 700}`,
  mixed: (random, index) => names[["counter", "uuid", "planes"][random(3)]!]!(random, index)
}

const versions: ReadonlyArray<(random: Random) => string> = [
  (random) => `"${hex(random, 32)}"`,
  (random) => String(random(3)),
  (random) => `${random(1e6)}-${random(1e9)}`,
  (random) => "é\u{10000}".repeat(random(40)),
  () => ""
]

interface Known {
  readonly version: string
  readonly item: string | undefined
}

const sizes = [1, 7, 64, 256, 257, 511, 512, 513, 1000, 1001]

// pages of one key that comes at random write a block anew for each
const isCheap = ({ count, size }: { readonly count: number; readonly size: number }): boolean =>
  size > 60 || count < 300

const scenario = FastCheck.record({
  seed: FastCheck.integer(),
  name: FastCheck.constantFrom(...Object.keys(names)),
  count: FastCheck.constantFrom(0, 1, 256, 257, 512, 513, 1001, 2600),
  size: FastCheck.constantFrom(...sizes),
  shuffled: FastCheck.integer({ min: 0, max: 3 }).map((one) => one === 0),
  kind: FastCheck.constantFrom<Array<Versions>>("texts", "fingerprints"),
  switched: FastCheck.integer({ min: 0, max: 3 }).map((one) => one === 0)
}).filter(isCheap)

describe("snapshot against a map", () => {
  it(
    "O3b O5 walks over a world that changes report what a map of it would, over restarts and in any order",
    { timeout: 60_000 },
    () => {
      const met = new Set<string>()
      FastCheck.assert(
        FastCheck.property(scenario, ({ count, kind: first, name, seed, shuffled, size, switched }) => {
          const random = numbers(seed)
          const world = new Map<string, Known>()
          const known = new Map<string, Known>()
          const fresh = (): Known => ({
            version: versions[random(versions.length)]!(random),
            item: random(4) === 0 ? undefined : versions[random(versions.length)]!(random)
          })
          const add = (many: number): void => {
            for (let index = 0; index < many; index++) world.set(names[name]!(random, random(1e6)), fresh())
          }
          for (let index = 0; index < count; index++) world.set(names[name]!(random, index * 3), fresh())
          let whole = snapshot.empty
          let kind = first
          let anyFingerprints = kind === "fingerprints"
          for (let round = 0; round < 4; round++) {
            const listed = [...world].map(([key, item]) => ({ key, ...item }))
            listed.sort((a, b) => (shuffled ? random(3) - 1 : page.compareKeys(a.key, b.key)))
            let seen: snapshot.Seen = []
            for (let from = 0; from < listed.length; from += size) {
              // some keys of pages before come again, perhaps with another version
              const again = listed[0]!
              const items = [
                ...listed.slice(from, from + size),
                ...(from > 0 && random(4) === 0 ? [{ ...again, version: `${again.version}!` }] : [])
              ]
              const shown = page.make(
                items.map((item) => item.key),
                items.map((item) => item.version)
              )
              if ("illFormed" in shown) return assert.fail("no Unicode")
              const compared = snapshot.compare(whole, seen, shown)
              for (const { before, index } of compared.differences) {
                const item = items[page.originOf(shown, index)]!
                const old = known.get(item.key)
                met.add(old === undefined ? "added" : "modified")
                assert.strictEqual(before === undefined, old === undefined)
                if (before !== undefined && old !== undefined) {
                  assert.notStrictEqual(item.version, old.version)
                  if (!anyFingerprints) assert.deepStrictEqual(before, { key: item.key, ...old })
                }
                known.set(item.key, { version: item.version, item: item.item })
              }
              const before = whole
              const applied = snapshot.apply(compared, kind, (index) => items[page.originOf(shown, index)]!.item)
              whole = applied.snapshot
              seen = applied.seen
              const shared = new Set(before.blocks)
              if (compared.differences.length === 0) assert.strictEqual(whole, before)
              if (whole.blocks.some((part) => shared.has(part))) met.add("shared")
              for (const part of whole.blocks) if (!shared.has(part)) block.check(part.bytes)
            }
            for (const [key, item] of world) assert.strictEqual(known.get(key)?.version, item.version)
            const gone = [...known.keys()].filter((key) => !world.has(key)).sort(page.compareKeys)
            assert.strictEqual(keySet.countUnseen(whole, seen), gone.length)
            const missing = finished(keySet.unseen(whole, seen))
            assert.deepStrictEqual(keySet.texts(missing), gone)
            let rest = missing
            while (rest.count > 0) {
              const taken = keySet.take(rest, 1 + random(700))
              rest = taken.rest
              const cut = snapshot.remove(whole, page.ofKeys(taken.first))
              assert.deepStrictEqual(
                cut.removed.map((removed) => removed.key),
                [...taken.first]
              )
              for (const { item, key, version } of cut.removed) {
                if (!anyFingerprints) assert.deepStrictEqual({ item, version }, known.get(key))
                known.delete(key)
              }
              whole = cut.snapshot
              met.add("removed")
            }
            whole = snapshot.fromBlocks(whole.blocks.map(({ bytes }) => bytes.slice()))
            assert.strictEqual(whole.count, world.size)
            assert.deepStrictEqual(
              Array.from(snapshot.entries(whole), (entry) => entry.key),
              [...world.keys()].sort(page.compareKeys)
            )
            if (!anyFingerprints) {
              assert.deepStrictEqual(
                new Map(Array.from(snapshot.entries(whole), ({ item, key, version }) => [key, { version, item }])),
                known
              )
            }
            // a world of the next round: most of it as it was
            for (const key of [...world.keys()]) {
              const dice = random(100)
              if (dice < 5) world.delete(key)
              else if (dice < 10) world.set(key, fresh())
            }
            if (random(4) === 0) for (const key of [...world.keys()].slice(random(1000))) world.delete(key)
            add(random(2) * random(size > 60 ? 1200 : 40))
            if (switched) kind = kind === "texts" ? "fingerprints" : "texts"
            anyFingerprints ||= kind === "fingerprints"
          }
        }),
        { numRuns: 25 }
      )
      assert.deepStrictEqual([...met].sort(), ["added", "modified", "removed", "shared"])
    }
  )

  it("O3b a poll of which the save failed is dropped: what it was compared with is as it was", () => {
    const random = numbers(7)
    const keys = Array.from({ length: 1500 }, (_, index) => names["counter"]!(random, index))
    const versionsAt = (round: number) => keys.map((_, index) => (index % 50 === 0 ? `${round}` : "same"))
    const taken = (whole: snapshot.Snapshot, round: number) => {
      const shown = page.make(keys, versionsAt(round)) as page.Page
      const compared = snapshot.compare(whole, [], shown)
      return { ...compared, next: snapshot.apply(compared, "texts", () => "item").snapshot }
    }
    const start = taken(snapshot.empty, 1).next
    const saved = start.blocks.map(({ bytes }) => bytes.slice())
    const dropped = taken(start, 2)
    assert.strictEqual(dropped.differences.length, 30)
    assert.deepStrictEqual(
      start.blocks.map(({ bytes }) => bytes),
      saved
    )
    assert.strictEqual(taken(start, 1).next, start)
    assert.strictEqual(taken(dropped.next, 1).differences.length, 30)
    assert.strictEqual(taken(dropped.next, 2).next, dropped.next)
  })

  it("O3b ten changes among many keys write ten blocks, and the others stay the same objects", () => {
    const random = numbers(3)
    const keys = Array.from({ length: 20_000 }, (_, index) => names["counter"]!(random, index))
    const walk = (whole: snapshot.Snapshot, version: (index: number) => string): snapshot.Snapshot => {
      let next = whole
      let seen: snapshot.Seen = []
      for (let from = 0; from < keys.length; from += 1000) {
        const part = keys.slice(from, from + 1000)
        const shown = page.make(
          part,
          part.map((_, index) => version(from + index))
        ) as page.Page
        const applied = snapshot.apply(snapshot.compare(next, seen, shown), "fingerprints", () => undefined)
        next = applied.snapshot
        seen = applied.seen
      }
      assert.strictEqual(keySet.countUnseen(next, seen), 0)
      return next
    }
    const start = walk(snapshot.empty, () => "1")
    assert.strictEqual(start.blocks.length, 40)
    const next = walk(start, (index) => (index % 2000 === 0 ? "2" : "1"))
    const before = new Set(start.blocks.map(({ bytes }) => bytes))
    assert.strictEqual(next.blocks.filter(({ bytes }) => !before.has(bytes)).length, 10)
    // a key in front of all others shifts every page against the blocks, and nothing else
    keys.unshift("aaa")
    const shifted = walk(next, (index) => (index > 0 && (index - 1) % 2000 === 0 ? "2" : "1"))
    const kept = new Set(next.blocks.map(({ bytes }) => bytes))
    assert.strictEqual(shifted.blocks.filter(({ bytes }) => !kept.has(bytes)).length, 1)
    const size = start.blocks.reduce((sum, { bytes }) => sum + bytes.length, 0)
    assert.isBelow(size / keys.length, 13)
  })
})

describe("snapshot at rest", () => {
  const keys = Array.from({ length: 512 }, (_, index) => `key-${String(index).padStart(3, "0")}`)
  const versions = keys.map((_, index) => `v${index}`)
  const rested = () => {
    const shown = page.make(keys, versions) as page.Page
    const { snapshot: whole } = snapshot.apply(snapshot.compare(snapshot.empty, [], shown), "texts", () => undefined)
    // the first comparison of equals is remembered, the second one lives by that
    for (let walk = 0; walk < 2; walk++) {
      const { differences, seen } = snapshot.compare(whole, [], shown)
      assert.deepStrictEqual([differences.length, seen], [0, [true]])
    }
    return whole
  }
  const replaced = (list: ReadonlyArray<string>, changes: Readonly<Record<number, string>>) =>
    list.map((text, index) => changes[index] ?? text)

  const changed: Readonly<Record<string, readonly [ReadonlyArray<string>, ReadonlyArray<string>, number]>> = {
    "a version": [keys, replaced(versions, { 300: "other" }), 1],
    "a version by one bit": [keys, replaced(versions, { 511: "v510" }), 1],
    "two versions that have swapped places": [keys, replaced(versions, { 7: "v8", 8: "v7" }), 2],
    "a letter that has moved from one version to the next": [keys, replaced(versions, { 9: "v9v", 10: "10" }), 2],
    "a key": [replaced(keys, { 300: "key-300a" }), versions, 1],
    "a letter that has moved from a key to its version": [
      replaced(keys, { 5: "key-00" }),
      replaced(versions, { 5: "5v5" }),
      1
    ]
  }
  for (const [what, [nextKeys, nextVersions, count]] of Object.entries(changed)) {
    it(`O3b ${what} is a difference, also of a page as long as before`, () => {
      const { differences } = snapshot.compare(rested(), [], page.make(nextKeys, nextVersions) as page.Page)
      assert.strictEqual(differences.length, count)
    })
  }
})

describe("key sets", () => {
  it("O3 sets are parted, taken from and shrunk as plain lists are", () => {
    const subset = FastCheck.tuple(FastCheck.integer(), FastCheck.constantFrom(0, 1, 3, 400, 1700)).map(
      ([seed, many]) => {
        const random = numbers(seed)
        const found = new Set(Array.from({ length: many }, () => names["counter"]!(random, random(2500))))
        return [...found].sort(page.compareKeys)
      }
    )
    FastCheck.assert(
      FastCheck.property(subset, subset, FastCheck.nat(1200), (a, b, size) => {
        const { both, rest } = finished(keySet.split(keySet.of(a), keySet.of(b)))
        const inB = new Set(b)
        assert.deepStrictEqual(
          keySet.texts(both),
          a.filter((key) => inB.has(key))
        )
        assert.deepStrictEqual(
          keySet.texts(rest),
          a.filter((key) => !inB.has(key))
        )
        const taken = keySet.take(keySet.of(a), size)
        assert.deepStrictEqual([...taken.first, ...keySet.texts(taken.rest)], a)
        assert.strictEqual(taken.first.length, Math.min(a.length, size))
        assert.strictEqual(taken.rest.count, a.length - taken.first.length)
        const set = keySet.of(a)
        const left = keySet.without(set, page.ofKeys(b))
        assert.deepStrictEqual(
          keySet.texts(left),
          a.filter((key) => !inB.has(key))
        )
        assert.strictEqual(left === set, !a.some((key) => inB.has(key)))
      }),
      { numRuns: 150 }
    )
  })
})

describe("packed texts", () => {
  const text = FastCheck.oneof(
    FastCheck.fullUnicodeString({ maxLength: 300 }),
    FastCheck.stringOf(FastCheck.constantFrom(..."0123456789abcdef----zA"), { maxLength: 400 }),
    FastCheck.uuid(),
    FastCheck.hexaString({ maxLength: 200 })
  )

  const packed = (of: string): Uint8Array => {
    const out = new Bytes(1)
    const bytes = new TextEncoder().encode(of)
    packText(out, bytes, 0, bytes.length)
    return out.take()
  }

  it("every text comes back, never takes more than its bytes and its length, and equals itself alone", () => {
    FastCheck.assert(
      FastCheck.property(text, text, (a, b) => {
        const bytes = packed(a)
        const reader = new Reader(bytes, 0, bytes.length)
        assert.strictEqual(unpackText(reader, reader.number()), a)
        assert.strictEqual(reader.at, bytes.length)
        assert.isAtMost(bytes.length, Buffer.byteLength(a) + 2)
        for (const other of [a, b, `${a}0`, a.slice(1), a.replace(/[0-9a-f]/, "0"), a.replace("-", "+")]) {
          const plain = new TextEncoder().encode(other)
          assert.strictEqual(isPacked(bytes, 0, plain, 0, plain.length), Buffer.from(a).equals(Buffer.from(plain)))
        }
      }),
      { numRuns: 1500 }
    )
  })

  it("UUIDs and hashes take little more than half", () => {
    assert.strictEqual(packed("0f8fad5b-d9cb-469f-a165-70867728950e").length, 22)
    assert.isAtMost(packed(`"${"0123456789abcdef".repeat(2)}"`).length, 22)
  })

  it("fingerprints of a million like texts have 32 bits alike as often as chance has it, and never all 64", () => {
    const count = 1_000_000
    const out = new DataView(new ArrayBuffer(8))
    const low = new Uint32Array(count)
    const high = new Uint32Array(count)
    const whole = new BigUint64Array(count)
    const encoder = new TextEncoder()
    for (let index = 0; index < count; index++) {
      const bytes = encoder.encode(`v${index}`)
      fingerprint(viewOf(bytes), 0, bytes.length, out, 0)
      low[index] = out.getUint32(0, true)
      high[index] = out.getUint32(4, true)
      whole[index] = out.getBigUint64(0, true)
    }
    const repeats = (sorted: Uint32Array | BigUint64Array): number => {
      let found = 0
      for (let index = 1; index < sorted.length; index++) if (sorted[index] === sorted[index - 1]) found++
      return found
    }
    // n squared through 2 to the 33rd: 116
    for (const half of [low.sort(), high.sort()]) {
      assert.isAbove(repeats(half), 60)
      assert.isBelow(repeats(half), 180)
    }
    assert.strictEqual(repeats(whole.sort()), 0)
  })
})
