(* F2 as an early public draft states it is false: saturation at one point says nothing of others. *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Coq Require Import ZArith QArith Qcanon.
From Lop Require Import network equitable frozen rationals.
Delimit Scope nat_scope with N.
Local Close Scope Qc_scope.
Local Close Scope Q_scope.
Local Close Scope Z_scope.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.
(* The chain x -> a -> v -> y: v is dead at a = 1, and at a = -1, which agrees with it on the edges into v, it learns. *)
Definition chain (a : Qc) : data := {|
  kinds := [:: None; Some Linear; Some Relu; Some Linear];
  wires := [:: (0, 1, a); (1, 2, q (-1) 1); (2, 3, q 1 1)]%N;
  ends := [:: 3%N] |}.
Theorem F2_counterexample : exists (D D' : data) (v : nat) (s : sample Qc_ringType nat),
  let N := net_of D in let w0 := weight_of D in let w := weight_of D' in
  [/\ acyclic_by N id, slope N w0 (xval s) v = 0, agree_into N (pred1 v) w w0 &
      exists2 u, edge N u v & grad N w [:: s] u v != 0].
Proof.
exists (chain 1), (chain (- 1)), 2%N, (Sample (fun=> 1) (fun=> 1)); split.
- by apply: net_of_dag; vm_compute.
- by apply/eqP; vm_compute.
- move=> u v /eqP-> _; rewrite /weight_of /=.
  by case: (0%N == u); case: (1%N == u); case: (2%N == u).
- by exists 1%N; [vm_compute | vm_compute].
Qed.
