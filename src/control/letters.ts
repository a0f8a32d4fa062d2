/**
 * A bounded mailbox: each letter goes to one reader, the oldest are dropped when nobody reads, and the next one says how many.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { Waiters } from "./waiters.js"

export class Letters<A> {
  private readonly letters: Array<A> = []
  private readonly readers = new Waiters()
  private dropped = 0
  private isClosed = false

  constructor(
    private readonly capacity: number,
    private readonly onDrop: () => void
  ) {}

  post(letter: A): void {
    if (this.isClosed) return
    if (this.letters.length >= this.capacity) {
      this.letters.shift()
      this.dropped++
      this.onDrop()
    }
    this.letters.push(letter)
    this.readers.wakeAll()
  }

  /** No more will come; what is there can still be read. */
  close(): void {
    this.isClosed = true
    this.readers.wakeAll()
  }

  /** One letter a pull, so that a reader that leaves takes no other with it. */
  read<B>(open: (letter: A, missed: number) => B): Stream.Stream<B> {
    const pull: Effect.Effect<Chunk.Chunk<B>, Option.Option<never>> = Effect.suspend(() => {
      const letter = this.letters.shift()
      if (letter !== undefined) {
        const missed = this.dropped
        this.dropped = 0
        return Effect.succeed(Chunk.of(open(letter, missed)))
      }
      return this.isClosed ? Effect.fail(Option.none()) : Effect.zipRight(this.waiting, pull)
    })
    return Stream.repeatEffectChunkOption(pull)
  }

  private get waiting(): Effect.Effect<void> {
    return this.readers.wait(() => this.letters.length === 0 && !this.isClosed)
  }
}
