/**
 * The saved form of a ledger: a small JSON head that refers to immutable byte blocks.
 *
 * A save costs what changed: blocks that the store has already are only named again. A block's id is made of the save's
 * revision, so that an attempt whose outcome is unknown can never share an id with a later one.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Change from "./Change.js"
import type { Claim, Stored } from "./Checkpoints.js"
import { CheckpointError } from "./Checkpoints.js"
import type { BlockCodec, Codec, Undelivered } from "./definition.js"
import type { Group, Ledger, Parked } from "./ledger.js"
import * as ledger from "./ledger.js"
import * as slices from "./slices.js"

const format = 1

const Head = Schema.Struct({
  format: Schema.Literal(format),
  identity: Schema.String,
  synced: Schema.Boolean,
  next: Schema.Int,
  prefix: Schema.Int,
  state: Schema.Unknown,
  blocks: Schema.Array(Schema.String),
  outbox: Schema.Array(
    Schema.Struct({ first: Schema.Int, size: Schema.Int, observedAt: Schema.Number, block: Schema.String })
  ),
  parked: Schema.Array(
    Schema.Struct({
      id: Schema.String,
      error: Schema.String,
      observedAt: Schema.Number,
      parkedAt: Schema.Number,
      block: Schema.String
    })
  )
})

const Outer = Schema.Struct({ format: Schema.Number, identity: Schema.String })

export interface RecordCodec<D, B> {
  readonly checkpoint: string
  readonly identity: string
  readonly state: BlockCodec<D>
  readonly item: Codec<B>
  /** Which groups are saved: none for a source that replays. */
  readonly outbox: (ledger: Ledger<D, B>) => ReadonlyArray<Group<B>>
}

/** A ledger read back, and the undelivered changes whose values no longer decode. */
export interface Loaded<D, B> {
  readonly ledger: Ledger<D, B>
  readonly undecodable: ReadonlyArray<Undelivered>
}

const encoder = new TextEncoder()
const decoder = new TextDecoder("utf-8", { fatal: true })

const problem = (
  checkpoint: string,
  reason: CheckpointError["reason"],
  message: string,
  cause?: unknown
): CheckpointError => new CheckpointError({ reason, checkpoint, message, ...(cause === undefined ? {} : { cause }) })

const unreadable = (checkpoint: string, cause: unknown): CheckpointError =>
  problem(
    checkpoint,
    "Corrupt",
    `The checkpoint "${checkpoint}" cannot be read back; restore it from a backup, or reset it to start from what is there now.`,
    cause
  )

const parseJson = (text: string): Either.Either<unknown, unknown> => Either.try((): unknown => JSON.parse(text))

/** The outer fields first: a record of another source or a newer version is told apart from a broken one. */
const readHead = (codec: { readonly checkpoint: string; readonly identity: string }, text: string) =>
  Effect.gen(function* () {
    const { checkpoint, identity } = codec
    const broken = (cause: unknown): CheckpointError => unreadable(checkpoint, cause)
    const json = yield* Either.mapLeft(parseJson(text), broken)
    const outer = yield* Either.mapLeft(Schema.decodeUnknownEither(Outer)(json), broken)
    if (outer.format !== format) {
      return yield* problem(
        checkpoint,
        "UnknownFormat",
        `The checkpoint "${checkpoint}" has format ${outer.format}, this version reads ${format}; run the version that wrote it, or reset it.`
      )
    }
    if (outer.identity !== identity) {
      return yield* problem(
        checkpoint,
        "OtherIdentity",
        `The checkpoint "${checkpoint}" belongs to the source "${outer.identity}", not to "${identity}"; give this source another checkpoint, or reset it.`
      )
    }
    return yield* Either.mapLeft(Schema.decodeUnknownEither(Head)(json), broken)
  })

/** What became of a stored change: read back, a hole that an earlier load has left, or one that does not decode. */
type Read<B> = Either.Either<Change.Change<B> | undefined, Undelivered>

const changesOf = <B>(item: Codec<B>) => Schema.Array(Schema.NullOr(Change.schema(item)))
const rawChanges = changesOf(Schema.Unknown)
const changeCodecs = new WeakMap<object, unknown>()

/** The codec of a group, made once per item codec: making it costs more than a save. */
const changesCodec = <B>(item: Codec<B>): ReturnType<typeof changesOf<B>> => {
  const codec = (changeCodecs.get(item) as ReturnType<typeof changesOf<B>> | undefined) ?? changesOf(item)
  changeCodecs.set(item, codec)
  return codec
}

/** Reads changes value by value: a `previous` that does not decode is unknown, a value that does not is reported. */
const readChanges = <B>(item: Codec<B>, bytes: Uint8Array) =>
  Effect.gen(function* () {
    const json = yield* Either.try((): unknown => JSON.parse(decoder.decode(bytes)))
    const raw = yield* Schema.decodeUnknownEither(rawChanges)(json)
    const decode = Schema.decodeUnknown(item)
    return yield* Effect.forEach(raw, (change): Effect.Effect<Read<B>> =>
      change === null
        ? Effect.succeed(Either.right(undefined))
        : Effect.either(Effect.mapError(Change.traverse(change, decode), () => change))
    )
  })

function* checked(blocks: ReadonlyArray<Uint8Array>, check: (block: Uint8Array) => void): Generator<void, void> {
  for (const bytes of blocks) yield check(bytes)
}

export const load = <D, B>(codec: RecordCodec<D, B>, stored: Stored): Effect.Effect<Loaded<D, B>, CheckpointError> =>
  Effect.gen(function* () {
    const broken = (cause: unknown): CheckpointError => unreadable(codec.checkpoint, cause)
    const head = yield* readHead(codec, stored.head)
    const block = (id: string): Effect.Effect<Uint8Array, CheckpointError> =>
      Effect.mapError(Effect.fromNullable(stored.blocks.get(id)), broken)
    const state = yield* Effect.mapError(Schema.decodeUnknown(codec.state.head)(head.state), broken)
    const blocks = yield* Effect.forEach(head.blocks, block)
    const { check, join } = codec.state
    if (check !== undefined) {
      yield* Effect.catchAllDefect(slices.run(checked(blocks, check)), (defect) => Effect.fail(broken(defect)))
    }
    const durable = yield* Effect.try({ try: () => join(state, blocks), catch: broken })
    const undecodable: Array<Undelivered> = []
    const readBlock = (id: string) =>
      Effect.map(
        Effect.mapError(
          Effect.flatMap(block(id), (bytes) => readChanges(codec.item, bytes)),
          broken
        ),
        Arr.map((read) => {
          if (Either.isRight(read)) return read.right
          undecodable.push(read.left)
          return undefined
        })
      )
    const groups: Array<Group<B>> = []
    for (const { block: id, ...group } of head.outbox) {
      groups.push({ ...group, changes: yield* readBlock(id), redelivered: true })
    }
    const parked: Array<Parked<B>> = []
    for (const { block: id, ...entry } of head.parked) {
      for (const change of yield* readBlock(id)) if (change !== undefined) parked.push({ ...entry, change })
    }
    const { prefix, synced } = head
    // without an outbox nothing is out: what was, is read again
    const next = head.outbox.length === 0 ? prefix + 1 : head.next
    return { ledger: { ...ledger.make<D, B>(durable), synced, next, prefix, groups, parked }, undecodable }
  })

/** Writes ledgers to a claimed checkpoint. One save at a time. */
export class Recorder<D, B> {
  private rev: number
  /** Blocks that the store has for sure, by identity. */
  private ids = new Map<Uint8Array, string>()
  /** Ids of blocks that it may have: an attempt put or dropped them whose outcome is unknown, or the last run left them. */
  private stray: ReadonlyArray<string>
  private hasRecord: boolean
  /** The encoded form of groups and parked changes, made once. */
  private readonly encoded = new WeakMap<object, Uint8Array>()

  constructor(
    private readonly codec: RecordCodec<D, B>,
    private readonly claim: Claim
  ) {
    const stored = Option.getOrUndefined(claim.stored)
    this.rev = stored?.rev ?? 0
    this.hasRecord = stored !== undefined
    this.stray = stored === undefined ? [] : [...stored.blocks.keys()]
  }

  /** Whether there is a record yet. */
  get isEmpty(): boolean {
    return !this.hasRecord
  }

  private encodeChanges(owner: object, changes: ReadonlyArray<Change.Change<B> | undefined>) {
    const known = this.encoded.get(owner)
    if (known !== undefined) return Effect.succeed(known)
    const holes = changes.map((change) => change ?? null)
    return Effect.map(Schema.encode(changesCodec(this.codec.item))(holes), (json) => {
      const bytes = encoder.encode(JSON.stringify(json))
      this.encoded.set(owner, bytes)
      return bytes
    })
  }

  /** Encodes a ledger. It fails only if a value does not fit its codec. */
  private encode(from: Ledger<D, B>) {
    return Effect.gen(this, function* () {
      const { identity, outbox, state } = this.codec
      const rev = ++this.rev
      const ids = new Map<Uint8Array, string>()
      const put: Array<readonly [string, Uint8Array]> = []
      const refer = (bytes: Uint8Array): string => {
        const known = ids.get(bytes) ?? this.ids.get(bytes)
        const id = known ?? `${rev.toString(36)}-${put.length.toString(36)}`
        if (known === undefined) put.push([id, bytes])
        ids.set(bytes, id)
        return id
      }
      const split = state.split(from.durable)
      const groups: Array<(typeof Head.Type)["outbox"][number]> = []
      for (const group of outbox(from)) {
        const { first, observedAt, size } = group
        groups.push({ first, size, observedAt, block: refer(yield* this.encodeChanges(group, group.changes)) })
      }
      const parked: Array<(typeof Head.Type)["parked"][number]> = []
      for (const entry of from.parked) {
        const { error, id, observedAt, parkedAt } = entry
        const block = refer(yield* this.encodeChanges(entry, [entry.change]))
        parked.push({ id, error, observedAt, parkedAt, block })
      }
      const head: typeof Head.Type = {
        format,
        identity,
        synced: from.synced,
        next: from.next,
        prefix: from.prefix,
        state: yield* Schema.encode(state.head)(split.head),
        blocks: split.blocks.map(refer),
        outbox: groups,
        parked
      }
      const used = new Set(ids.values())
      const drop = [...this.ids.values(), ...this.stray].filter((id) => !used.has(id))
      return { save: { rev, head: JSON.stringify(head), put, drop }, ids }
    }).pipe(
      Effect.mapError((cause) =>
        problem(
          this.codec.checkpoint,
          "Unavailable",
          `A value of the source "${this.codec.identity}" does not fit its codec, so the checkpoint "${this.codec.checkpoint}" cannot be saved; mend the \`state\` or \`item\` codec.`,
          cause
        )
      )
    )
  }

  /** Saves a ledger. After a failure the store holds this ledger or the one before, and the next save puts it right. */
  readonly save = (from: Ledger<D, B>): Effect.Effect<void, CheckpointError> =>
    Effect.flatMap(this.encode(from), ({ ids, save }) =>
      Effect.suspend(() => {
        // until the store says that it has taken this, it may and may not have
        const dropped = new Set(save.drop)
        for (const [bytes, id] of this.ids) if (dropped.has(id)) this.ids.delete(bytes)
        this.stray = [...dropped, ...save.put.map(([id]) => id)]
        return Effect.map(this.claim.save(save), () => {
          this.hasRecord = true
          // one that was given up and ends late: a younger attempt has built on not knowing
          if (save.rev !== this.rev) return
          this.ids = ids
          this.stray = []
        })
      })
    )
}
