(* Depths of blocks (C5), and the coarsest equitable partition (C11). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network equitable.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

(* C5: under the pattern condition all units of a block have the same depth, the longest path into them, and no edges
   join them; so the depth is a rank of the graph that is level on blocks, as C7 wants it. *)
Section Depth.
Variables (R : comRingType) (V K : eqType) (N : net R V) (rk : V -> nat) (c : V -> K).
Hypothesis dag : acyclic_by N rk.
Hypothesis closed : forall u v, edge N u v -> u \in units N.
Notation us := (units N).
Fixpoint depth_by k v : nat :=
  if k is k'.+1 then \max_(u <- us | edge N u v) (depth_by k' u).+1 else 0%N.
Definition depth v := depth_by (steps N).+1 v.

Lemma depth_le k v : (depth_by k v <= rk v)%N.
Proof.
elim: k v => // k IH v /=; apply/bigmax_leqP_seq => u us_u uv.
by apply: leq_ltn_trans (IH u) _; exact: dag.1.
Qed.
Lemma depth_stable k v : (rk v < k)%N -> depth_by k.+1 v = depth_by k v.
Proof.
elim: k v => // k IH v lt_vk; rewrite [LHS]/= [RHS]/=; apply: eq_bigr => u uv.
by congr _.+1; apply: IH; apply: leq_trans (dag.1 _ _ uv) _.
Qed.
Lemma depthE v : depth v = \max_(u <- us | edge N u v) (depth u).+1.
Proof.
rewrite {1}/depth [LHS]/= big_seq_cond [RHS]big_seq_cond; apply: eq_bigr => u /andP[us_u uv].
by rewrite /depth depth_stable // dag.2.
Qed.
Theorem C5_rank : acyclic_by N depth.
Proof.
split=> [u v uv|u us_u]; last by apply: leq_ltn_trans (depth_le _ _) (dag.2 _ us_u).
by rewrite [X in (_ < X)%N]depthE; apply: (bigmax_sup_seq u) => //; exact: closed uv.
Qed.
Hypothesis pat_in : pattern_in N c.
Lemma depth_block_le v v' : c v = c v' -> (depth v <= depth v')%N.
Proof.
have [d] := ubnP (rk v); elim: d v v' => // d IH v v' lt_vd cv.
rewrite depthE; apply/bigmax_leqP_seq => u us_u uv.
have: has (fun u0 => edge N u0 v' && (c u0 == c u)) us.
  by rewrite has_count -(pat_in _ cv) -has_count; apply/hasP; exists u; rewrite ?uv ?eqxx.
case/hasP=> u' us_u' /andP[uv' /eqP cu]; rewrite [X in (_ < X)%N]depthE.
apply: (bigmax_sup_seq u') => //; rewrite ltnS; apply: IH (esym cu).
exact: leq_trans (dag.1 _ _ uv) _.
Qed.
Theorem C5_level u v : c u = c v -> depth u = depth v.
Proof. by move=> cu; apply/eqP; rewrite eqn_leq !depth_block_le. Qed.
Theorem C5_no_inner_edge u v : c u = c v -> ~~ edge N u v.
Proof. by move=> cu; apply/negP => /(C5_rank.1 _ _); rewrite (C5_level cu) ltnn. Qed.
End Depth.

(* C11, a partition being an equivalence relation between units.  Row- and column-equitable: the sums over every union of
   blocks agree (C11_blocks: for colours this is RE and CE). *)
Section Coarsest.
Variables (R : comRingType) (V : eqType) (N : net R V) (w : weights R V).
Notation us := (units N).
Definition equivalence (e : V -> V -> Prop) :=
  [/\ forall u, e u u, forall u v, e u v -> e v u & forall u v t, e u v -> e v t -> e u t].
Definition union_of_blocks (e : V -> V -> Prop) (A : pred V) := forall u v, e u v -> A u = A v.
Definition equitable (e : V -> V -> Prop) := forall A, union_of_blocks e A ->
  (forall v v', e v v' -> \sum_(u <- us | edge N u v && A u) w u v = \sum_(u <- us | edge N u v' && A u) w u v') /\
  (forall u u', e u u' -> \sum_(v <- us | edge N u v && A v) w u v = \sum_(v <- us | edge N u' v && A v) w u' v).
Definition admits (e : V -> V -> Prop) := forall u v, e u v -> 
  [/\ inp N u -> u = v, out N u -> u = v, act N u =1 act N v & slp N u =1 slp N v].
Definition good e := [/\ equivalence e, admits e & equitable e].

Inductive join : V -> V -> Prop :=
| Same u : join u u
| Step u v t e : good e -> e u v -> join v t -> join u t.

Lemma join_trans u v t : join u v -> join v t -> join u t.
Proof. by elim=> {u v} [//|u v y e ge uv _ IH yt]; apply: Step uv (IH yt). Qed.
Lemma join_sym u v : join u v -> join v u.
Proof.
elim=> {u v} [u|u v t e ge uv _ IH]; first exact: Same.
by apply: join_trans IH _; case: (ge) => -[_ sym _] _ _; apply: (Step ge (sym _ _ uv)); exact: Same.
Qed.

Theorem C11_join : good join.
Proof.
split.
- by split; [exact: Same | exact: join_sym | exact: join_trans].
- move=> u v; elim=> {u v} [u|u v t e ge uv _ [i1 o1 a1 s1]]; first by split.
  have [_ adm _] := ge; have [i2 o2 a2 s2] := adm _ _ uv; split=> [iu|ou|z|z].
  + by have uE := i2 iu; rewrite -i1 ?uE // -uE.
  + by have uE := o2 ou; rewrite -o1 ?uE // -uE.
  + by rewrite a2.
  + by rewrite s2.
- move=> A clA; have cl e : good e -> union_of_blocks e A.
    by move=> ge u v uv; apply: clA; apply: Step uv (Same _).
  by split=> u v; elim=> {u v} [//|u v t e ge uv _ <-]; have [_ _ eq] := ge; case: (eq _ (cl e ge)) => r k; [exact: r | exact: k].
Qed.

Theorem C11_coarsest : good join /\ forall e, good e -> forall u v, e u v -> join u v.
Proof. by split=> [|e ge u v uv]; [exact: C11_join | apply: Step uv (Same _)]. Qed.

Theorem C11_unique e : good e -> (forall e', good e' -> forall u v, e' u v -> e u v) ->
  forall u v, e u v <-> join u v.
Proof.
by move=> ge top u v; split=> uv; [exact: C11_coarsest.2 _ ge _ _ uv | exact: top C11_join _ _ uv].
Qed.
End Coarsest.

Section Link.
Variables (R : comRingType) (V K : eqType) (N : net R V) (c : V -> K) (w : weights R V).
Notation us := (units N).
Theorem C11_blocks : RE N c w /\ CE N c w <-> equitable N w (fun u v => c u = c v).
Proof.
have mask (P A : pred V) (F : V -> R) : \sum_(u <- us | P u && A u) F u = \sum_(u <- us | P u) F u * (A u)%:R.
  by rewrite big_mkcondr; apply: eq_bigr => u _; case: (A u); rewrite ?mulr1 ?mulr0.
split=> [[re ce] A clA|eq].
  by split=> [v v' cv|u u' cu]; rewrite !mask; apply: (@block_sum _ _ _ N c) => [x y _ _ _ _ /clA->//|j];
    [exact: re | exact: ce].
split=> [j v v' cv|i u u' cu].
  by have [] := eq (fun u => c u == j) (fun u v cu => congr1 (eq_op^~ j) cu) => + _; exact.
by have [] := eq (fun u => c u == i) (fun u v cu => congr1 (eq_op^~ i) cu) => _; exact.
Qed.
End Link.
