export * as CheckpointsContract from "./CheckpointsContract.js"
export * as ScriptedSource from "./ScriptedSource.js"
export * as Simulator from "./Simulator.js"
export * as VirtualClock from "./VirtualClock.js"
