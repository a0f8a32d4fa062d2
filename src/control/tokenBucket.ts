/**
 * A token bucket whose tokens can be taken in advance: who comes too early is told how long to wait.
 */

/**
 * How many retries there may be in a second, and how many at once before that counts.
 */
export interface BucketOptions {
  readonly rate: number
  readonly burst: number
}

export class TokenBucket {
  private tokens: number
  private at = -Infinity

  constructor(private readonly options: BucketOptions) {
    this.tokens = options.burst
  }

  /** Takes a token; gives the milliseconds until it is there. `now` is of a clock that is not set back. */
  take(now: number): number {
    const { burst, rate } = this.options
    if (now > this.at) {
      this.tokens = Math.min(burst, this.tokens + ((now - this.at) * rate) / 1000)
      this.at = now
    }
    this.tokens--
    return this.tokens >= 0 ? 0 : (-this.tokens * 1000) / rate
  }
}
