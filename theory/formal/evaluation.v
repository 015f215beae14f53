(* What theory.network and simulate.quotient compute on Fractions, to be compared with the definitions that the
   theorems are about: networks as data, evaluated by the kernel. *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Coq Require Import ZArith QArith Qcanon.
From Lop Require Import network equitable tied quotient rationals.
Delimit Scope nat_scope with N.
Local Close Scope Qc_scope.
Local Close Scope Q_scope.
Local Close Scope Z_scope.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

Section Of.
Variables (D : data) (b : seq (sample Qc_ringType nat)).
Notation N := (net_of D).
Notation w := (weight_of D).

(* z, h and delta of every unit, sample by sample, and the gradient of every edge, summed over the samples *)
Definition agrees (z h d : seq (seq Qc)) (g : seq Qc) : bool :=
  [&& topological D,
      [seq [seq preact N w (xval s) v | v <- units N] | s <- b] == z,
      [seq [seq forward N w (xval s) v | v <- units N] | s <- b] == h,
      [seq [seq backward N w s v | v <- units N] | s <- b] == d &
      [seq grad N w b e.1.1 e.1.2 | e <- wires D] == g].

(* edges share parameters: the number of that of each edge, the parameters, and the gradient in them *)
Definition tie_of (ties : seq nat) u v : nat :=
  foldr (fun e acc => if (e.1.1.1 == u) && (e.1.1.2 == v) then e.2 else acc) 0%N (zip (wires D) ties).
Definition ties_agree (ties : seq nat) (theta g : seq Qc) : bool :=
  [seq tied_grad N (tie_of ties) (nth 0 theta) b p | p <- iota 0 (size theta)] == g.

(* the weights after one step of descent *)
Definition steps_to (eta : Qc) (after : seq Qc) : bool :=
  [seq descent N (fun=> eta) (fun _ _ => b) w 1 e.1.1 e.1.2 | e <- wires D] == after.

(* whether the weights are row- and column-equitable, and the pattern of edges equitable, for these blocks *)
Variable labels : seq nat.
Notation c := (colour labels).
Definition same_counts (n : nat -> nat -> nat) :=
  all (fun v => all (fun v' => (c v == c v') ==> all (fun j => n v j == n v' j) (map c (units N))) (units N)) (units N).
Definition is_equitable (rows columns pattern : bool) : bool :=
  [&& same_on N c (rowsum N c w) == rows,
      same_on N c (colsum N c w) == columns &
      same_counts (fun v j => count (fun u => edge N u v && (c u == j)) (units N)) &&
      same_counts (fun u i => count (fun v => edge N u v && (c v == i)) (units N)) == pattern].

(* the base network: its weights, the activations of its units, and its weights after one step of the clone *)
Variable firsts : seq nat.                                        (* the first unit of each block *)
Notation rep := (nth 0%N firsts).
Definition reduces_to (eta : Qc) (pairs : seq (nat * nat)) (weights after : seq Qc) (h : seq (seq Qc)) : bool :=
  let base_of w := [seq base_weight N c rep w p.1 p.2 | p <- pairs] in
  [&& base_of w == weights,
      base_of (descent N (fun=> eta) (fun _ _ => b) w 1) == after &
      [seq [seq forward (base N c rep) (base_weight N c rep w) (fun i => xval s (rep i)) i | i <- iota 0 (size firsts)]
       | s <- b] == h].
End Of.

Definition sample_of (x s : seq Qc) : sample Qc_ringType nat := Sample (nth 0 x) (nth 0 s).
