/**
 * Testing what watches, and what is watched: scripted sources, a virtual clock, a simulator and contract suites.
 *
 * @since 0.1.0
 */
export * as CheckpointsContract from "./CheckpointsContract.js"
export * as ObjectStoreContract from "./ObjectStoreContract.js"
export * as ScriptedChangeLog from "./ScriptedChangeLog.js"
export * as ScriptedHttpClient from "./ScriptedHttpClient.js"
export * as ScriptedObjectStore from "./ScriptedObjectStore.js"
export * as ScriptedSocket from "./ScriptedSocket.js"
export * as ScriptedSource from "./ScriptedSource.js"
export * as Simulator from "./Simulator.js"
export * as SocketSimulator from "./SocketSimulator.js"
export * as SourceContract from "./SourceContract.js"
export * as VirtualClock from "./VirtualClock.js"
