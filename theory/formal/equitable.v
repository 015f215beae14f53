(* Clones: row- and column-equitable weights, their cosets, training on them (C1 to C6). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import Order.TTheory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Blocks.
Variables (R : comRingType) (V : eqType) (K : eqType).
Variables (N : net R V) (rk : V -> nat) (c : V -> K).
Notation us := (units N).
Notation W := (weights R V).
Implicit Types (w t : W).

(* row sums: of the edges into v from block j; column sums: out of u into block i *)
Definition RE w := forall j v v', c v = c v' ->
  \sum_(u <- us | edge N u v && (c u == j)) w u v =
  \sum_(u <- us | edge N u v' && (c u == j)) w u v'.
Definition CE w := forall i u u', c u = c u' ->
  \sum_(v <- us | edge N u v && (c v == i)) w u v =
  \sum_(v <- us | edge N u' v && (c v == i)) w u' v.
(* one value on all edges between two blocks *)
Definition BC (X : Type) (t : V -> V -> X) := forall u u' v v', edge N u v -> edge N u' v' ->
  c u = c u' -> c v = c v' -> t u v = t u' v'.
(* the edge pattern is equitable *)
Definition pattern_in := forall j v v', c v = c v' ->
  count (fun u => edge N u v && (c u == j)) us =
  count (fun u => edge N u v' && (c u == j)) us.
Definition pattern_out := forall i u u', c u = c u' ->
  count (fun v => edge N u v && (c v == i)) us =
  count (fun v => edge N u' v && (c v == i)) us.
(* inputs and outputs are blocks of their own, one activation a block *)
Definition admissible :=
  [/\ forall u u', inp N u -> c u = c u' -> u = u',
      forall u u', out N u -> c u = c u' -> u = u',
      forall v v', c v = c v' -> act N v =1 act N v' &
      forall v v', c v = c v' -> slp N v =1 slp N v'].

(* sums over all units are sums over blocks of sums over a block *)
Lemma sum_blocks (P : pred V) (F : V -> R) :
  \sum_(u <- us | P u) F u =
  \sum_(j <- undup (map c us)) \sum_(u <- us | P u && (c u == j)) F u.
Proof.
under [RHS]eq_bigr do rewrite big_mkcondr.
rewrite exchange_big big_seq_cond [RHS]big_seq_cond; apply: eq_bigr => u /andP[us_u _].
rewrite (bigD1_seq (c u)) ?undup_uniq ?mem_undup ?map_f //= eqxx big1 ?addr0 // => j.
by rewrite eq_sym => /negPf->.
Qed.

(* a sum of terms that are equal within blocks depends on block sums only *)
Lemma block_sum (P P' : pred V) (a a' t : V -> R) :
  (forall u u', u \in us -> u' \in us -> P u || P' u -> P u' || P' u' -> c u = c u' -> t u = t u') ->
  (forall j, \sum_(u <- us | P u && (c u == j)) a u = \sum_(u <- us | P' u && (c u == j)) a' u) ->
  \sum_(u <- us | P u) a u * t u = \sum_(u <- us | P' u) a' u * t u.
Proof.
move=> tE aE; rewrite sum_blocks [RHS]sum_blocks; apply: eq_bigr => j _.
have [|none] := boolP (has (fun u => (P u || P' u) && (c u == j)) us); last first.
  rewrite big_seq_cond [RHS]big_seq_cond !big_pred0 // => u;
  by apply: contraNF none => /and3P[us_u Pu cu]; apply/hasP; exists u; rewrite ?Pu ?cu ?orbT.
case/hasP=> u0 us0 /andP[P0 /eqP c0].
have cst (Q : pred V) b : (forall u, Q u -> P u || P' u) ->
    \sum_(u <- us | Q u && (c u == j)) b u * t u =
    (\sum_(u <- us | Q u && (c u == j)) b u) * t u0.
  move=> QP; rewrite big_distrl /= big_seq_cond [RHS]big_seq_cond.
  apply: eq_bigr => u /and3P[us_u Qu /eqP cu]; congr (_ * _).
  by apply: (tE _ _ us_u us0 (QP _ Qu) P0); rewrite cu c0.
by rewrite !cst ?aE // => u ->; rewrite ?orbT.
Qed.

Hypothesis dag : acyclic_by N rk.
Hypothesis adm : admissible.

Let inp1 : forall u u', inp N u -> c u = c u' -> u = u'. Proof. by case: adm. Qed.
Let out1 : forall u u', out N u -> c u = c u' -> u = u'. Proof. by case: adm. Qed.
Let actE : forall v v', c v = c v' -> act N v =1 act N v'. Proof. by case: adm. Qed.
Let slpE : forall v v', c v = c v' -> slp N v =1 slp N v'. Proof. by case: adm. Qed.

Lemma inp_block u u' : c u = c u' -> inp N u = inp N u'.
Proof.
by move=> cu; apply/idP/idP => i; [rewrite -(inp1 i cu) | rewrite -(inp1 i (esym cu))].
Qed.
Lemma out_block u u' : c u = c u' -> out N u = out N u'.
Proof.
by move=> cu; apply/idP/idP => i; [rewrite -(out1 i cu) | rewrite -(out1 i (esym cu))].
Qed.

Lemma C1_step w x d : RE w ->
  (forall u u', (rk u < d)%N -> (rk u' < d)%N -> c u = c u' -> forward N w x u = forward N w x u') ->
  forall v v', (rk v <= d)%N -> (rk v' <= d)%N -> c v = c v' -> preact N w x v = preact N w x v'.
Proof.
move=> re IH v v' lv lv' cv; rewrite /preact !sumvE.
apply: (@block_sum (edge N ^~ v) (edge N ^~ v') (w ^~ v) (w ^~ v')) => [u u' _ _ eu eu' cu|j]; last exact: re.
apply: IH cu.
  by case/orP: eu => /dag.1 lt_u; rewrite (leq_trans lt_u).
by case/orP: eu' => /dag.1 lt_u; rewrite (leq_trans lt_u).
Qed.

Theorem C1_forward w x : RE w -> forall v v', c v = c v' -> forward N w x v = forward N w x v'.
Proof.
move=> re v v' cv.
have [d] := ubnP (maxn (rk v) (rk v')); rewrite gtn_max => /andP[].
elim: d v v' cv => // d IH v v' cv lv lv'.
have [iv|niv] := boolP (inp N v); first by rewrite (inp1 iv cv).
rewrite !(forwardE dag) -(inp_block cv) (negPf niv) (actE cv); congr (act N v' _).
by apply: (@C1_step w x d) cv => // u u' lu lu' cu; apply: IH.
Qed.

Theorem C1_preact w x : RE w -> forall v v', c v = c v' -> preact N w x v = preact N w x v'.
Proof.
move=> re v v' cv; apply: (@C1_step w x (maxn (rk v) (rk v'))) cv => //.
- by move=> u u' _ _; apply: C1_forward.
- exact: leq_maxl.
- exact: leq_maxr.
Qed.

Lemma C1_slope w x : RE w -> forall v v', c v = c v' -> slope N w x v = slope N w x v'.
Proof.
by move=> re v v' cv; rewrite /slope (inp_block cv) (C1_preact x re cv) (slpE cv).
Qed.

Theorem C2_backward w s : RE w -> CE w ->
  forall u u', c u = c u' -> backward N w s u = backward N w s u'.
Proof.
move=> re ce u u' cu.
have [d] := ubnP (maxn (steps N - rk u) (steps N - rk u')); rewrite gtn_max => /andP[].
elim: d u u' cu => // d IH u u' cu lu lu'.
have [ou|nou] := boolP (out N u); first by rewrite (out1 ou cu).
rewrite !(backwardE dag) -(out_block cu) (negPf nou) !add0r.
apply: (@block_sum (edge N u) (edge N u') (w u) (w u')) => [v v' us_v us_v' ev ev' cv|i]; last exact: ce.
rewrite (C1_slope _ re cv); congr (_ * _).
have low y : y \in us -> edge N u y || edge N u' y -> (steps N - rk y < d)%N.
  move=> us_y /orP[] /dag.1 lt_y; [apply: leq_trans (lu : (steps N - rk u <= d)%N)
    | apply: leq_trans (lu' : (steps N - rk u' <= d)%N)];
  by rewrite ltn_sub2l // (ltn_trans lt_y) ?dag.2.
by apply: IH; rewrite ?low.
Qed.

Theorem C2_gradient w b : RE w -> CE w ->
  forall u u' v v', c u = c u' -> c v = c v' -> grad N w b u v = grad N w b u' v'.
Proof.
move=> re ce u u' v v' cu cv; rewrite !gradE; apply: eq_bigr => s _.
by rewrite (C1_forward _ re cu) (C1_slope _ re cv) (C2_backward _ re ce cv).
Qed.
(* ---- C3: cloned units stay cloned --------------------------------- *)
Hypothesis pat_in : pattern_in.
Hypothesis pat_out : pattern_out.

(* the graph is e or reversed: rows are columns of the reversed one *)
Lemma BC_sums (e : rel V) t :
  (forall j v v', c v = c v' -> count (fun u => e u v && (c u == j)) us = count (fun u => e u v' && (c u == j)) us) ->
  (forall u u' v v', e u v -> e u' v' -> c u = c u' -> c v = c v' -> t u v = t u' v') ->
  forall j v v', c v = c v' -> \sum_(u <- us | e u v && (c u == j)) t u v = \sum_(u <- us | e u v' && (c u == j)) t u v'.
Proof.
move=> pat bc j v v' cv.
have [/hasP[u0 us0 /andP[e0 /eqP c0]]|none] := boolP (has (fun u => e u v && (c u == j)) us).
  rewrite (eq_bigr (fun=> t u0 v)) => [|u /andP[eu /eqP cu]]; last by apply: bc; rewrite ?cu ?c0.
  rewrite [RHS](eq_bigr (fun=> t u0 v)) => [|u /andP[eu /eqP cu]]; last by apply: bc; rewrite ?cu ?c0.
  by rewrite !big_const_seq (pat j _ _ cv).
by rewrite !big_hasC // has_count -(pat j _ _ cv) -has_count.
Qed.
Lemma BC_RE t : BC t -> RE t. Proof. by move=> bc; apply: BC_sums. Qed.
Lemma BC_CE t : BC t -> CE t.
Proof. by move=> bc; apply: (@BC_sums (fun v u => edge N u v) (fun v u => t u v)) => // *; apply: bc. Qed.

Definition shift (a : R) w t : W := fun u v => a * w u v + t u v.

Lemma RE_ext w w' : (forall u v, w u v = w' u v) -> RE w -> RE w'.
Proof.
by move=> E re j v v' cv; under eq_bigr do rewrite -E; under [RHS]eq_bigr do rewrite -E; apply: re.
Qed.
Lemma CE_ext w w' : (forall u v, w u v = w' u v) -> CE w -> CE w'.
Proof.
by move=> E ce j v v' cv; under eq_bigr do rewrite -E; under [RHS]eq_bigr do rewrite -E; apply: ce.
Qed.

Lemma RE_shift a w t : RE w -> BC t -> RE (shift a w t).
Proof.
move=> re bc j v v' cv.
by rewrite /shift !big_split -!big_distrr /= (re j _ _ cv) (BC_RE bc j cv).
Qed.

Lemma CE_shift a w t : CE w -> BC t -> CE (shift a w t).
Proof.
move=> ce bc i u u' cu.
by rewrite /shift !big_split -!big_distrr /= (ce i _ _ cu) (BC_CE bc i cu).
Qed.

(* the gradient is tangent to w0 + BC at every point of it, for every batch and loss *)
Theorem C3_tangent w0 w b : RE w0 -> CE w0 -> BC (fun u v => w u v - w0 u v) -> BC (grad N w b).
Proof.
move=> re ce bc u u' v v' _ _ cu cv; apply: C2_gradient cu cv.
  by apply: RE_ext (RE_shift 1 re bc) => a d; rewrite /shift mul1r addrC subrK.
by apply: CE_ext (CE_shift 1 ce bc) => a d; rewrite /shift mul1r addrC subrK.
Qed.

(* Any rule that changes an entry of the weights by a function of the number of the step, of this entry's
   gradient and of this entry's own state (velocity, moments, the whole history of its gradients), and that
   multiplies all weights by one number (decoupled decay).  B gives the batch, and the derivative of any loss,
   at every step; it may look at the weights. *)
Section Training.
Variables (S : Type) (opt : nat -> R -> S -> R * S) (decay : nat -> R).
Variables (B : nat -> W -> seq (sample R V)) (w0 : W) (s0 : V -> V -> S).

Fixpoint train (T : nat) : W * (V -> V -> S) :=
  if T is T'.+1 then
    let: (w, s) := train T' in
    let g := grad N w (B T' w) in
    (fun u v => decay T' * w u v + (opt T' (g u v) (s u v)).1,
     fun u v => (opt T' (g u v) (s u v)).2)
  else (w0, s0).

Theorem C3_train : RE w0 -> CE w0 -> BC s0 -> forall T,
  [/\ RE (train T).1, CE (train T).1, BC (train T).2 &
      BC (fun u v => (train T).1 u v - (\prod_(k < T) decay k) * w0 u v)].
Proof.
move=> re0 ce0 bs0; elim=> [|T] /=.
  by split=> // u u' v v' *; rewrite big_ord0 !mul1r !subrr.
case: (train T) => w s /= [re ce bs bw].
have bg : BC (fun u v => (opt T (grad N w (B T w) u v) (s u v)).1).
  by move=> u u' v v' e e' cu cv; rewrite (C2_gradient _ re ce cu cv) (bs _ _ _ _ e e' cu cv).
split; first exact: (RE_shift (decay T) re bg); first exact: (CE_shift (decay T) ce bg).
  by move=> u u' v v' e e' cu cv; rewrite (C2_gradient _ re ce cu cv) (bs _ _ _ _ e e' cu cv).
move=> u u' v v' e e' cu cv; rewrite !big_ord_recr /= [_ * decay T]mulrC -!mulrA.
rewrite ![decay T * _ + _]addrC -!addrA -!mulrBr (bw _ _ _ _ e e' cu cv).
by rewrite (bg _ _ _ _ e e' cu cv).
Qed.
End Training.

(* gradient descent with any learning rates *)
Section Descent.
Variables (eta : nat -> R) (B : nat -> W -> seq (sample R V)) (w0 : W).
Fixpoint descent (T : nat) : W :=
  if T is T'.+1 then
    fun u v => descent T' u v - eta T' * grad N (descent T') (B T' (descent T')) u v
  else w0.

Theorem C3_descent : RE w0 -> CE w0 -> forall T,
  [/\ RE (descent T), CE (descent T) & BC (fun u v => descent T u v - w0 u v)].
Proof.
move=> re0 ce0; elim=> [|T /= [re ce bw]].
  by split=> // u u' v v' *; rewrite !subrr.
set w := descent T in re ce bw *.
have bg : BC (fun u v => - (eta T * grad N w (B T w) u v)).
  by move=> u u' v v' _ _ cu cv; rewrite (C2_gradient _ re ce cu cv).
split.
- by apply: RE_ext (RE_shift 1 re bg) => u v; rewrite /shift mul1r.
- by apply: CE_ext (CE_shift 1 ce bg) => u v; rewrite /shift mul1r.
move=> u u' v v' e e' cu cv.
by rewrite -![_ - w0 _ _]addrC !addrA -![- w0 _ _ + _]addrC (bw _ _ _ _ e e' cu cv) (bg _ _ _ _ e e' cu cv).
Qed.

Corollary C3_clones : RE w0 -> CE w0 -> forall T x v v', c v = c v' ->
  forward N (descent T) x v = forward N (descent T) x v'.
Proof. by move=> re ce T x v v'; case: (C3_descent re ce T) => reT _ _; apply: C1_forward. Qed.
End Descent.

(* Inside BC itself the rule may also look at the entry's own weight (coupled decay). *)
Section TrainingInside.
Variables (S : Type) (opt : nat -> R -> R -> S -> R * S).
Variables (B : nat -> W -> seq (sample R V)) (w0 : W) (s0 : V -> V -> S).
Fixpoint train_own (T : nat) : W * (V -> V -> S) :=
  if T is T'.+1 then
    let: (w, s) := train_own T' in
    let g := grad N w (B T' w) in
    (fun u v => (opt T' (w u v) (g u v) (s u v)).1, fun u v => (opt T' (w u v) (g u v) (s u v)).2)
  else (w0, s0).
Theorem C3_train_own : BC w0 -> BC s0 -> forall T, BC (train_own T).1 /\ BC (train_own T).2.
Proof.
move=> bw0 bs0; elim=> [|T] //=; case: (train_own T) => w s /= [bw bs].
have := C2_gradient (B T w) (BC_RE bw) (BC_CE bw) => bg.
by split=> u u' v v' e e' cu cv;
   rewrite (bw _ _ _ _ e e' cu cv) (bs _ _ _ _ e e' cu cv) (bg _ _ _ _ cu cv).
Qed.
End TrainingInside.
End Blocks.

(* C12: with an equitable pattern RE and CE together are a linear space that contains BC *)
Section Linear.
Variables (R : comRingType) (V K : eqType) (N : net R V) (c : V -> K).
Theorem C12_contains : pattern_in N c -> pattern_out N c -> forall t : weights R V, BC N c t -> RE N c t /\ CE N c t.
Proof. by move=> pin pout t bc; split; [apply: BC_RE | apply: BC_CE]. Qed.
Theorem C12_linear a (w t : weights R V) : RE N c w -> CE N c w -> RE N c t -> CE N c t ->
  RE N c (shift a w t) /\ CE N c (shift a w t).
Proof.
move=> rw cw rt ct; rewrite /shift; split=> [j v v' cv|i u u' cu];
  by rewrite !big_split -!big_distrr /= ?(rw j _ _ cv) ?(rt j _ _ cv) ?(cw i _ _ cu) ?(ct i _ _ cu).
Qed.
End Linear.

Section Pattern.
Variables (R : numDomainType) (V K : eqType) (N : net R V) (c : V -> K).
Notation W := (weights R V).

Lemma sum1_countR (s : seq V) (P : pred V) : \sum_(u <- s | P u) 1 = (count P s)%:R :> R.
Proof. by rewrite -sum1_count natr_sum. Qed.

(* for the graph e, which in C6_columns is reversed *)
Lemma pattern_iff (e : rel V) (w0 : W)
    (sums := fun w : W => forall j v v', c v = c v' ->
      \sum_(u <- units N | e u v && (c u == j)) w u v = \sum_(u <- units N | e u v' && (c u == j)) w u v') :
  sums w0 ->
  ((forall t : W, (forall u u' v v', e u v -> e u' v' -> c u = c u' -> c v = c v' -> t u v = t u' v') ->
      sums (fun u v => w0 u v + t u v)) <->
   (forall j v v', c v = c v' ->
      count (fun u => e u v && (c u == j)) (units N) = count (fun u => e u v' && (c u == j)) (units N))).
Proof.
move=> sums0; split=> [all_sums j v v' cv|pat t bc j v v' cv]; last first.
  by rewrite !big_split /= (sums0 j _ _ cv) (BC_sums pat bc j cv).
pose t : W := fun u _ => (c u == j)%:R.
have := all_sums t (fun u u' a a' _ _ cu _ => congr1 (fun k => (k == j)%:R) cu) j v v' cv.
rewrite !big_split /= (sums0 j _ _ cv) => /addrI.
have one y : \sum_(u <- units N | e u y && (c u == j)) t u y = (count (fun u => e u y && (c u == j)) (units N))%:R.
  by rewrite -sum1_countR; apply: eq_bigr => u /andP[_ cu]; rewrite /t cu.
by rewrite !one => /eqP; rewrite eqr_nat => /eqP.
Qed.

Theorem C6_rows (w0 : W) : RE N c w0 ->
  ((forall t, BC N c t -> RE N c (fun u v => w0 u v + t u v)) <-> pattern_in N c).
Proof. exact: pattern_iff. Qed.

Theorem C6_columns (w0 : W) : CE N c w0 ->
  ((forall t, BC N c t -> CE N c (fun u v => w0 u v + t u v)) <-> pattern_out N c).
Proof.
move=> /(@pattern_iff (fun v u => edge N u v) (fun v u => w0 u v)) [only_if if_].
split=> [all_ce|pat t bc]; first by apply: only_if => t bc; apply: (all_ce (fun u v => t v u)) => u u' v v' e e' cu cv;
  exact: bc e e' cv cu.
by apply: (if_ pat (fun v u => t u v)) => u u' v v' e e' cu cv; apply: bc e e' cv cu.
Qed.
End Pattern.

(* ------------------------------------------------------------------ *)
(* C4: the dimension of BC                                             *)
(* ------------------------------------------------------------------ *)
Section Dimension.
Variables (F : fieldType) (V K : finType) (e : rel V) (c : V -> K).
Definition connected : pred (K * K) := fun p => [exists u, exists v, [&& e u v, c u == p.1 & c v == p.2]].
Definition indicator (p : K * K) : {ffun V * V -> F^o} :=
  [ffun uv => ([&& e uv.1 uv.2, c uv.1 == p.1 & c uv.2 == p.2])%:R].
Definition pairs := [seq indicator p | p <- enum connected].
Definition BCspace : {vspace {ffun V * V -> F^o}} := <<pairs>>%VS.

Lemma indicators_free : free pairs.
Proof.
have -> : pairs = in_tuple pairs by [].
apply/freeP => k k0 i; have lt_i : (i < size (enum connected))%N by rewrite -(size_map indicator); exact: ltn_ord.
have [p0 _] : exists p : K * K, true by case: (enum connected) lt_i => // p s _; exists p.
have ci : connected (nth p0 (enum connected) i) by have := mem_nth p0 lt_i; rewrite mem_enum.
have [u /existsP[v /and3P[uv cu cv]]] := existsP ci.
have := congr1 (fun f : {ffun V * V -> F^o} => f (u, v)) k0; rewrite sum_ffunE ffunE.
rewrite (bigD1 i) //= big1 ?addr0 => [|j ji].
  by rewrite ffunE (nth_map p0) // ffunE /= uv cu cv => <-; rewrite /GRing.scale /= mulr1.
have lt_j : (j < size (enum connected))%N by rewrite -(size_map indicator); exact: ltn_ord.
rewrite ffunE (nth_map p0) // ffunE /= uv; move: cu cv => /eqP-> /eqP->.
case E: (_ && _); last by rewrite /GRing.scale /= mulr0.
case/negP: ji; rewrite -val_eqE /= -(nth_uniq p0 lt_j lt_i (enum_uniq _)).
by move: E; case: (nth p0 _ i) => ? ?; case: (nth p0 _ j) => ? ? /= /andP[/eqP-> /eqP->].
Qed.

Theorem C4_dimension : \dim BCspace = #|connected|.
Proof. by have := indicators_free; rewrite /free => /eqP; rewrite size_map -cardE. Qed.

(* BCspace is: zero off the edges, one value on all edges between two blocks *)
Theorem C4_span (t : {ffun V * V -> F^o}) : reflect
  ((forall u v, ~~ e u v -> t (u, v) = 0) /\
   (forall u u' v v', e u v -> e u' v' -> c u = c u' -> c v = c v' -> t (u, v) = t (u', v')))
  (t \in BCspace).
Proof.
apply: (iffP idP) => [/coord_span->|[off const]].
  split=> [u v nuv|u u' v v' uv uv' cu cv].
    rewrite sum_ffunE big1 // => i _; rewrite ffunE.
    have /mapP[p _ ->] : pairs`_i \in pairs by rewrite mem_nth // size_map -cardE.
    by rewrite ffunE /= (negPf nuv) /GRing.scale /= mulr0.
  rewrite !sum_ffunE; apply: eq_bigr => i _; rewrite !ffunE.
  have /mapP[p _ ->] : pairs`_i \in pairs by rewrite mem_nth // size_map -cardE.
  by rewrite !ffunE /= uv uv' cu cv.
pose val (p : K * K) : F := if [pick uv | [&& e uv.1 uv.2, c uv.1 == p.1 & c uv.2 == p.2]] is Some uv then t uv else 0.
have -> : t = \sum_(p <- enum connected) val p *: indicator p.
  apply/ffunP => -[u v]; rewrite sum_ffunE.
  have [uv|nuv] := boolP (e u v); last first.
    by rewrite off // big1_seq // => p _; rewrite !ffunE /= (negPf nuv) /GRing.scale /= mulr0.
  have con : connected (c u, c v).
    by apply/existsP; exists u; apply/existsP; exists v; rewrite /= uv !eqxx.
  rewrite (bigD1_seq (c u, c v)) ?enum_uniq ?mem_enum //= big1 ?addr0 => [|p np]; last first.
    rewrite !ffunE /= uv /GRing.scale /=; case E: (_ && _); last by rewrite mulr0.
    by case/andP: E np => /eqP-> /eqP->; rewrite -surjective_pairing eqxx.
  rewrite !ffunE /= uv !eqxx /GRing.scale /= mulr1 /val.
  case: pickP => [[u' v'] /= /and3P[uv' /eqP cu /eqP cv]|/(_ (u, v))]; first exact: const.
  by rewrite /= uv !eqxx.
rewrite big_seq; apply: rpred_sum => p p_in; apply: rpredZ; apply: memv_span; exact: map_f.
Qed.
End Dimension.
