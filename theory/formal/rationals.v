(* The rationals: the same terms, evaluated; counterexamples (C6). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network equitable.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

From Coq Require Import ZArith QArith Qcanon.

Delimit Scope nat_scope with N.
Local Close Scope Qc_scope.
Local Close Scope Q_scope.
Local Close Scope Z_scope.
Local Open Scope ring_scope.

Lemma Qc_eqP : Equality.axiom (fun x y : Qc => if Qc_eq_dec x y then true else false).
Proof. by move=> x y; case: (Qc_eq_dec x y) => e; constructor. Qed.
Canonical Qc_eqType := EqType Qc (EqMixin Qc_eqP).

Definition Qc_code (q : Qc) : nat * nat * nat :=
  (Z.to_nat (Qnum q), Z.to_nat (Z.opp (Qnum q)), Pos.to_nat (Qden q)).
Definition Qc_decode (p : nat * nat * nat) : Qc :=
  Q2Qc (Qmake (Z.sub (Z.of_nat p.1.1) (Z.of_nat p.1.2)) (Pos.of_nat p.2)).
Lemma Qc_codeK : cancel Qc_code Qc_decode.
Proof.
case=> [[n d] c]; apply: Qc_is_canon; rewrite /Qc_decode /Qc_code [X in Qeq X _]/= Pos2Nat.id.
have -> : Z.sub (Z.of_nat (Z.to_nat n)) (Z.of_nat (Z.to_nat (Z.opp n))) = n by case: n {c} => //= p; rewrite ?Z.sub_0_r positive_nat_Z.
exact: Qred_correct.
Qed.
Canonical Qc_choiceType := ChoiceType Qc (CanChoiceMixin Qc_codeK).

Lemma QcplusN : left_inverse (Q2Qc 0) Qcopp Qcplus.
Proof. by move=> x; rewrite Qcplus_comm Qcplus_opp_r. Qed.
Canonical Qc_zmodType := ZmodType Qc (ZmodMixin Qcplus_assoc Qcplus_comm Qcplus_0_l QcplusN).
Lemma Qc_mulDl : left_distributive Qcmult Qcplus.
Proof. by move=> x y z; exact: Qcmult_plus_distr_l. Qed.
Lemma Qc_nonzero : Q2Qc 1 != Q2Qc 0. Proof. by []. Qed.
Definition Qc_ringMixin := ComRingMixin Qcmult_assoc Qcmult_comm Qcmult_1_l Qc_mulDl Qc_nonzero.
Canonical Qc_ringType := RingType Qc Qc_ringMixin.
Canonical Qc_comRingType := ComRingType Qc Qcmult_comm.

(* Activations of theory.catalogue that are rational, with the slope of D1 at their kinks: 0 at that of ReLU. *)
Inductive kind := Linear | Relu | Leaky | One | Square | Cube | Hardtanh.
Definition below (y z : Qc) : bool := ~~ Qle_bool z y.                     (* y < z *)
Definition value (k : kind) (z : Qc) : Qc :=
  match k with
  | Linear => z
  | Relu => if below 0 z then z else 0
  | Leaky => if below 0 z then z else Q2Qc (1 # 100) * z
  | One => 1
  | Square => z * z
  | Cube => z * z * z
  | Hardtanh => if below 1 z then 1 else if below z (- 1) then - 1 else z
  end.
Definition deriv (k : kind) (z : Qc) : Qc :=
  match k with
  | Linear => 1
  | Relu => if below 0 z then 1 else 0
  | Leaky => if below 0 z then 1 else Q2Qc (1 # 100)
  | One => 0
  | Square => z + z
  | Cube => z * z + z * z + z * z
  | Hardtanh => if below (- 1) z && below z 1 then 1 else 0
  end.

(* a network as data: kinds of the units 0 .. n-1 (None: an input), edges u -> v with weights, outputs *)
Record data := Data { kinds : seq (option kind); wires : seq (nat * nat * Qc); ends : seq nat }.
Definition size_of (D : data) := size (kinds D).
Definition kind_at (D : data) v := nth None (kinds D) v.
Definition net_of (D : data) : net Qc_ringType nat := {|
  units := iota 0 (size_of D);
  edge := fun u v => has (fun e => (e.1.1 == u) && (e.1.2 == v)) (wires D);
  steps := size_of D;
  inp := fun v => if kind_at D v is None then true else false;
  out := fun v => has (pred1 v) (ends D);
  act := fun v => if kind_at D v is Some k then value k else id;
  slp := fun v => if kind_at D v is Some k then deriv k else fun=> 0 |}.
Definition weight_of (D : data) : weights Qc_ringType nat := fun u v =>
  foldr (fun e acc => if (e.1.1 == u) && (e.1.2 == v) then e.2 else acc) 0 (wires D).
Definition topological (D : data) := all (fun e => (e.1.1 < e.1.2)%N && (e.1.2 < size_of D)%N) (wires D).

Lemma net_of_dag D : topological D -> acyclic_by (net_of D) id.
Proof.
move=> top; split=> [u v|u]; last by rewrite mem_iota.
by case/hasP=> e e_in /andP[/eqP <- /eqP <-]; case/andP: (allP top e e_in).
Qed.

(* row- and column-equitability are decided on the units *)
Section Check.
Variables (R : comRingType) (V K : eqType) (N : net R V) (c : V -> K) (w : weights R V).
Notation us := (units N).
Hypothesis own : forall v v', v \notin us -> c v = c v' -> v = v'.
Definition rowsum v j := sumv us (fun u => edge N u v && (c u == j)) (w ^~ v).
Definition colsum u i := sumv us (fun v => edge N u v && (c v == i)) (w u).
Definition same_on (f : V -> K -> R) :=
  all (fun v => all (fun v' => (c v == c v') ==> all (fun j => f v j == f v' j) (map c us)) us) us.

Lemma same_onP f : (forall v j, j \notin map c us -> f v j = 0) -> same_on f ->
  forall j v v', c v = c v' -> f v j = f v' j.
Proof.
move=> f0 ok j v v' cv.
have [jc|njc] := boolP (j \in map c us); last by rewrite !f0.
have [us_v|nv] := boolP (v \in us); last by rewrite (own nv cv).
have [us_v'|nv'] := boolP (v' \in us); last by rewrite (own nv' (esym cv)).
by move/allP/(_ v us_v)/allP/(_ v' us_v'): ok; rewrite cv eqxx /= => /allP/(_ j jc)/eqP.
Qed.
Lemma no_block (P : pred V) (F : V -> R) j : j \notin map c us -> sumv us (fun u => P u && (c u == j)) F = 0.
Proof.
move=> nj; rewrite sumvE big_seq_cond big_pred0 // => u; apply: contraNF nj => /and3P[us_u _ /eqP<-].
exact: map_f.
Qed.
Lemma RE_check : same_on rowsum -> RE N c w.
Proof.
by move=> ok j v v' cv; rewrite -!sumvE; apply: (same_onP _ ok) => // *; exact: no_block.
Qed.
Lemma CE_check : same_on colsum -> CE N c w.
Proof.
by move=> ok i u u' cu; rewrite -!sumvE; apply: (same_onP _ ok) => // *; exact: no_block.
Qed.
End Check.

Definition colour (labels : seq nat) (v : nat) : nat :=
  if (v < size labels)%N then nth 0%N labels v else (v + foldr maxn 0%N labels).+1.
Lemma colour_own D labels : size labels = size_of D ->
  forall v v', v \notin units (net_of D) -> colour labels v = colour labels v' -> v = v'.
Proof.
move=> sz v v'; rewrite mem_iota /= add0n -sz -leqNgt /colour => le_v; rewrite ltnNge le_v /=.
case: ltnP => [lt_v'|_ [] /addIn //] E; exfalso.
have: (nth 0%N labels v' <= foldr maxn 0%N labels)%N.
  by elim: labels v' lt_v' {sz le_v E} => // a l IH [|i] lt_i /=; rewrite leq_max ?leqnn // (IH i) ?orbT.
by rewrite -E ltnNge leq_addl.
Qed.

(* C6 is false without the pattern condition: the product's three-by-three example *)
Definition q (n : Z) (d : positive) : Qc := Q2Qc (Qmake n d).
Definition uneven : data := {|
  kinds := [:: None; Some Relu; Some Relu; Some Relu; Some Relu; Some Relu; Some Relu; Some Linear];
  wires := [:: (0, 1, q 1 1); (0, 2, q 1 1); (0, 3, q 1 1);
               (1, 4, q 1 1); (2, 4, q 1 1);
               (1, 5, q 1 1); (2, 5, q (-1) 1); (3, 5, q 2 1);
               (2, 6, q 2 1); (3, 6, q 0 1);
               (4, 7, q 1 1); (5, 7, q 1 1); (6, 7, q 1 1)]%N;
  ends := [:: 7%N] |}.
Definition uneven_colour := colour [:: 0; 1; 1; 1; 2; 2; 2; 3]%N.
Definition at_one : sample Qc_ringType nat := Sample (fun=> 1) (fun=> q 6 1).

Lemma uneven_equitable : topological uneven /\
  RE (net_of uneven) uneven_colour (weight_of uneven) /\ CE (net_of uneven) uneven_colour (weight_of uneven).
Proof.
split; first by vm_compute.
by split; [apply: RE_check | apply: CE_check]; [exact: colour_own | vm_compute | exact: colour_own | vm_compute].
Qed.

Theorem C6_counterexample : exists (D : data) (c : nat -> nat) (b : seq (sample Qc_ringType nat)) (eta : Qc),
  let N := net_of D in let w0 := weight_of D in
  [/\ acyclic_by N id /\ admissible N c, RE N c w0 /\ CE N c w0 &
      exists x v v', c v = c v' /\
        forward N (descent N (fun=> eta) (fun _ _ => b) w0 1) x v !=
        forward N (descent N (fun=> eta) (fun _ _ => b) w0 1) x v'].
Proof.
exists uneven, uneven_colour, [:: at_one], (q 1 1000); split; last first.
- by exists (fun=> 1), 4%N, 5%N; split; [|vm_compute].
- by case: uneven_equitable.
split; first by apply: net_of_dag; vm_compute.
have own u u' : (8 <= u)%N -> uneven_colour u = uneven_colour u' -> u = u'.
  by move=> le_u; apply: (@colour_own uneven); rewrite // mem_iota -leqNgt.
have [small big] : (forall v, (v < 8)%N -> nth 0%N [:: 0; 1; 1; 1; 2; 2; 2; 3]%N v = uneven_colour v) /\
                   (forall v, (v < 8)%N \/ (8 <= v)%N).
  by split=> v; [rewrite /uneven_colour /colour /= => -> | case: ltnP; [left | right]].
split=> v v'.
- rewrite /= /kind_at; case: v => [|[|[|[|[|[|[|[|v]]]]]]]] //= _; last by rewrite -?addSn; exact: own.
  by case: v' => [|[|[|[|[|[|[|[|v']]]]]]]].
- rewrite /= orbF => /eqP<-; case: (big v') => [lt_v'|le_v' /esym/(own _ _ le_v')//].
  by case: v' lt_v' => [|[|[|[|[|[|[|[|v']]]]]]]].
- case: (big v) => [lt_v|le_v /(own _ _ le_v)->//]; case: (big v') => [lt_v'|le_v' /esym/(own _ _ le_v')->//].
  by case: v lt_v => [|[|[|[|[|[|[|[|v]]]]]]]] //; case: v' lt_v' => [|[|[|[|[|[|[|[|v']]]]]]]].
- case: (big v) => [lt_v|le_v /(own _ _ le_v)->//]; case: (big v') => [lt_v'|le_v' /esym/(own _ _ le_v')->//].
  by case: v lt_v => [|[|[|[|[|[|[|[|v]]]]]]]] //; case: v' lt_v' => [|[|[|[|[|[|[|[|v']]]]]]]].
Qed.
