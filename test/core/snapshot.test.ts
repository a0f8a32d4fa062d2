import { assert, describe, it } from "@effect/vitest"
import { FastCheck } from "effect"
import type { Entry } from "../../src/core/block.js"
import * as block from "../../src/core/block.js"
import * as keySet from "../../src/core/keySet.js"
import type { Page, Versions } from "../../src/core/page.js"
import * as page from "../../src/core/page.js"
import type { Snapshot } from "../../src/core/snapshot.js"
import * as snapshot from "../../src/core/snapshot.js"

/** Keys of all planes, whole characters only, with those that JavaScript's `<` orders differently. */
const key = FastCheck.oneof(
  FastCheck.string({ maxLength: 4 }),
  FastCheck.fullUnicodeString({ maxLength: 4 }),
  FastCheck.array(
    FastCheck.constantFrom("a", "\n", "\u0000", "\u007f", "é", "\ud7ff", "\ue000", "\uffff", "\u{10000}", "\u{10ffff}"),
    {
      maxLength: 4
    }
  ).map((parts) => parts.join(""))
)

type Item = Entry & { readonly version: string }

const entry = (name: string, version: number, item?: string): Item => ({ key: name, version: `v${version}`, item })

const sorted = <A extends { readonly key: string }>(entries: Iterable<A>): ReadonlyArray<A> =>
  [...entries].sort((a, b) => page.compareKeys(a.key, b.key))

const pageOf = (entries: ReadonlyArray<Item>): Page => {
  const made = page.make(
    entries.map((current) => current.key),
    entries.map((current) => current.version)
  )
  if ("illFormed" in made) return assert.fail("no Unicode")
  return made
}

/** Takes entries in any order as one page. */
const take = (whole: Snapshot, seen: snapshot.Seen, entries: ReadonlyArray<Item>, kind: Versions = "texts") => {
  const shown = pageOf(entries)
  const compared = snapshot.compare(whole, seen, shown)
  const { differences } = compared
  return {
    ...snapshot.apply(compared, kind, (index) => entries[page.originOf(shown, index)]!.item),
    differences,
    shown
  }
}

const build = (entries: Iterable<Item>, kind: Versions = "texts"): Snapshot =>
  take(snapshot.empty, [], [...entries], kind).snapshot

const finished = <A>(work: Generator<void, A>): A => {
  for (;;) {
    const step = work.next()
    if (step.done === true) return step.value
  }
}

const check = (whole: Snapshot) => {
  // what is saved is read back, so blocks are in order, not empty, and counted
  const parts = whole.blocks.map(({ bytes }) => bytes)
  for (const bytes of parts) block.check(bytes)
  const again = snapshot.fromBlocks(parts)
  assert.strictEqual(again.count, whole.count)
  assert.deepStrictEqual(again.blocks, whole.blocks)
  return [...snapshot.entries(again)]
}

describe("compareKeys", () => {
  it("O5 orders keys as their UTF-8 bytes", () => {
    FastCheck.assert(
      FastCheck.property(key, key, (a, b) => {
        assert.strictEqual(Math.sign(page.compareKeys(a, b)), Buffer.compare(Buffer.from(a), Buffer.from(b)))
      }),
      { numRuns: 2000 }
    )
    assert.isBelow(page.compareKeys("\uffff", "\u{10000}"), 0)
    assert.isTrue("\uffff" > "\u{10000}")
  })
})

interface World {
  readonly before: ReadonlyMap<string, number>
  readonly after: ReadonlyMap<string, number>
  readonly pageSizes: ReadonlyArray<number>
  readonly shuffle: ReadonlyArray<number>
  readonly repeats: ReadonlyArray<number>
}

const world: FastCheck.Arbitrary<World> = FastCheck.record({
  before: FastCheck.array(FastCheck.tuple(key, FastCheck.nat(2)), { maxLength: 60 }).map((all) => new Map(all)),
  after: FastCheck.array(FastCheck.tuple(key, FastCheck.nat(2)), { maxLength: 60 }).map((all) => new Map(all)),
  keep: FastCheck.nat(2),
  pageSizes: FastCheck.array(FastCheck.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 4 }),
  shuffle: FastCheck.array(FastCheck.nat(1000), { maxLength: 60 }),
  repeats: FastCheck.array(FastCheck.nat(1000), { maxLength: 6 })
}).map(({ keep, ...rest }) =>
  // with `keep` most keys are in both
  keep === 0 ? rest : { ...rest, after: new Map([...rest.before, ...[...rest.after].slice(0, 5)]) }
)

/** The pages of a walk in any order, with some keys on two pages. */
const pagesOf = ({ after, pageSizes, repeats, shuffle }: World): ReadonlyArray<ReadonlyArray<Item>> => {
  const entries = Array.from(after, ([name, version]) => entry(name, version, `item ${name}`))
  shuffle.forEach((random, index) => {
    if (entries.length === 0) return
    const [a, b] = [index % entries.length, random % entries.length]
    ;[entries[a], entries[b]] = [entries[b]!, entries[a]!]
  })
  for (const random of repeats) if (entries.length > 0) entries.push(entries[random % entries.length]!)
  const pages: Array<ReadonlyArray<Item>> = []
  for (let index = 0, from = 0; from < entries.length; index++) {
    const size = pageSizes[index % pageSizes.length]!
    const page = new Map(entries.slice(from, from + size).map((current) => [current.key, current]))
    pages.push(sorted(page.values()))
    from += size
  }
  return pages
}

describe("snapshot", () => {
  it("apply(diff(a, b), a) = b for pages of any size in any order, and each difference comes once", () => {
    FastCheck.assert(
      FastCheck.property(
        world,
        FastCheck.constantFrom<Array<Versions>>("texts", "fingerprints"),
        (current, kind: Versions) => {
          const isWhole = kind === "texts"
          const start = build(
            Array.from(current.before, ([name, version]) => entry(name, version)),
            kind
          )
          const applied = new Map(current.before)
          const reported = new Map<string, string>()
          let whole = start
          let seen: snapshot.Seen = []
          for (const found of pagesOf(current)) {
            const merged = take(whole, seen, found, kind)
            assert.strictEqual(merged.snapshot === whole, merged.differences.length === 0)
            let last = -1
            for (const { before, index } of merged.differences) {
              assert.isAbove(index, last)
              last = index
              const shown = found[page.originOf(merged.shown, index)]!
              assert.isFalse(reported.has(shown.key), "a key seen twice gives one difference")
              reported.set(shown.key, before === undefined ? "Added" : "Modified")
              assert.strictEqual(before !== undefined, applied.has(shown.key))
              if (isWhole && before !== undefined) assert.strictEqual(before.version, `v${applied.get(shown.key)}`)
              applied.set(shown.key, Number(shown.version.slice(1)))
            }
            whole = merged.snapshot
            seen = merged.seen
            check(whole)
          }
          const missing = keySet.texts(finished(keySet.unseen(whole, seen)))
          assert.strictEqual(keySet.countUnseen(whole, seen), missing.length)
          assert.deepStrictEqual(
            missing,
            sorted(Array.from(current.before.keys(), (name) => entry(name, 0)))
              .map((known) => known.key)
              .filter((name) => !current.after.has(name))
          )
          const cut = snapshot.remove(whole, page.ofKeys(missing))
          assert.deepStrictEqual(
            cut.removed.map((removed) => removed.key),
            missing
          )
          for (const name of missing) applied.delete(name)
          assert.deepStrictEqual(applied, new Map(current.after))
          const left = check(cut.snapshot)
          const names = sorted(Array.from(current.after, ([name, version]) => entry(name, version)))
          assert.deepStrictEqual(
            left.map((kept) => [kept.key, kept.version]),
            names.map((kept) => [kept.key, isWhole ? kept.version : undefined])
          )
          // and nothing is new in it
          assert.deepStrictEqual(take(cut.snapshot, [], names, kind).differences, [])
        }
      ),
      { numRuns: 400 }
    )
  })

  it("a large snapshot shares the blocks that did not change, and stays in blocks of bounded size", () => {
    const names = Array.from({ length: 10_000 }, (_, index) => `key/${String(index).padStart(6, "0")}`)
    const start = build(names.map((name) => entry(name, 1, `{"of":"${name}"}`)))
    assert.strictEqual(start.count, names.length)
    const changed = [entry("key/005000", 2), entry("key/005000!", 1), entry("key/009999", 1, "other item")]
    const { differences, snapshot: next } = take(start, [], changed)
    assert.strictEqual(differences.length, 2)
    const shared = new Set(start.blocks.map(({ bytes }) => bytes))
    assert.isAtMost(next.blocks.filter(({ bytes }) => !shared.has(bytes)).length, 2)
    assert.isTrue(next.blocks.every(({ bytes, count }) => count <= 512 && bytes.length < 80_000))
    // taken apart at random it stays whole, and does not fall into crumbs
    const gone = names.filter((_, index) => (index * 7919) % 10 !== 0)
    const rest = snapshot.remove(next, page.ofKeys(gone))
    assert.strictEqual(rest.removed.length, gone.length)
    check(rest.snapshot)
    assert.isAtMost(rest.snapshot.blocks.length, rest.snapshot.count / 20)
  })

  it("items and versions of any length and text come back as they were", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.dictionary(key, FastCheck.fullUnicodeString(), { maxKeys: 20 }), (texts) => {
        const entries = sorted(
          Object.entries(texts).map(([name, text], index): Item => ({
            key: name,
            version: text.repeat(1 + (index % 3) * 200),
            item: index % 2 === 0 ? text.repeat(1 + (index % 5) * 300) : undefined
          }))
        )
        assert.deepStrictEqual(check(build(entries)), [...entries])
      })
    )
  })

  it("bytes that are no snapshot are refused, never read as another one", () => {
    const { bytes } = build([entry("a", 1, "x"), entry("b", 2)]).blocks[0]!
    for (let length = 0; length < bytes.length; length++) {
      assert.throws(() => block.check(bytes.subarray(0, length)), /block|decode|encoded/i)
    }
    assert.throws(() => block.check(Uint8Array.of(...bytes, 1)), /behind its end/)
    // its head: format, count, 1, "a", 1, "b"
    assert.deepStrictEqual([...bytes.subarray(0, 6)], [0xd1, 2, 1, 0x61, 1, 0x62])
    for (const [at, message] of [
      [1, /number that it says/],
      [3, /begins with another key/],
      [5, /ends with another key/]
    ] as const) {
      assert.throws(() => block.check(bytes.map((byte, index) => (index === at ? byte + 2 : byte))), message)
    }
    assert.throws(() => snapshot.fromBlocks([new Uint8Array(0)]), /empty/)
    assert.throws(() => snapshot.fromBlocks([bytes, bytes]), /out of order/)
    assert.throws(() => snapshot.fromBlocks([Uint8Array.of(1, 0, 0, 0xff)]), /unknown format 1/)
    assert.throws(() => snapshot.fromBlocks([Uint8Array.of(0xd1, 0, 0, 0)]), /empty/)
  })
})
