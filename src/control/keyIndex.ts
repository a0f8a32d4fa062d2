/**
 * Which keys a term stands for, where the terms of a key follow from its value.
 */
import * as Option from "effect/Option"

/** Gives the terms under which a value is found. It must give the same ones for the same value at any time. */
export type TermsOf<in A> = (value: A, key: string) => string | ReadonlyArray<string>

export class KeyIndex<A> {
  private readonly terms = new Map<string, Set<string>>()

  constructor(private readonly termsOf: TermsOf<A>) {}

  /** What is to be done when a key gets another value; nothing has changed before that. */
  change(key: string, from: Option.Option<A>, to: Option.Option<A>): () => void {
    const old = this.of(key, from)
    const now = this.of(key, to)
    return () => {
      for (const term of old) if (!now.includes(term)) this.drop(term, key)
      for (const term of now) this.put(term, key)
    }
  }

  keys(term: string): Iterable<string> {
    return this.terms.get(term) ?? []
  }

  private of(key: string, value: Option.Option<A>): ReadonlyArray<string> {
    if (Option.isNone(value)) return []
    const terms = this.termsOf(value.value, key)
    return typeof terms === "string" ? [terms] : terms
  }

  private put(term: string, key: string): void {
    const keys = this.terms.get(term)
    if (keys === undefined) this.terms.set(term, new Set([key]))
    else keys.add(key)
  }

  private drop(term: string, key: string): void {
    const keys = this.terms.get(term)
    if (keys?.delete(key) === true && keys.size === 0) this.terms.delete(term)
  }
}
