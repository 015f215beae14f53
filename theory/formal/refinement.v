(* Colour refinement ends in the coarsest equitable partition (C11). *)
Set Warnings "-notation-overridden,-ambiguous-paths".
From mathcomp Require Import all_ssreflect all_algebra.
From Lop Require Import network equitable partitions.
Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.
Import GRing.Theory.
Local Open Scope ring_scope.

Section Refinement.
Variables (R : comRingType) (V : finType) (N : net R V) (w : weights R V).
Notation us := (units N).
Hypothesis all_us : forall v, v \in us.
(* the coarsest admissible partition, from which the algorithm starts *)
Variable start : rel V.
Definition alike u v := [/\ inp N u || inp N v -> u = v, out N u || out N v -> u = v, act N u =1 act N v & slp N u =1 slp N v].
Hypothesis startE : forall u v, start u v <-> alike u v.

(* one round: units of a block stay together if they have equal row sums and equal column sums for every block *)
Definition same_sums (e : rel V) u v := all (fun x =>
  (sumv us (fun y => edge N y u && e y x) (w ^~ u) == sumv us (fun y => edge N y v && e y x) (w ^~ v)) &&
  (sumv us (fun y => edge N u y && e y x) (w u) == sumv us (fun y => edge N v y && e y x) (w v))) us.
Definition refine (e : rel V) : rel V := fun u v => e u v && same_sums e u v.
Definition rounds k : rel V := iter k refine start.
(* any order of splits: a split separates no units of a block that have the same sums *)
Inductive reached : rel V -> Prop :=
| Start : reached start
| Split (e e' : rel V) : reached e -> equivalence e' -> (forall u v, e' u v -> e u v) ->
    (forall u v, e u v -> same_sums e u v -> e' u v) -> reached e'.

Let into (e : rel V) v x := \sum_(y <- us | edge N y v && e y x) w y v.
Let from (e : rel V) u x := \sum_(y <- us | edge N u y && e y x) w u y.
Lemma same_sumsP (e : rel V) u v : reflect (forall x, into e u x = into e v x /\ from e u x = from e v x) (same_sums e u v).
Proof.
apply: (iffP allP) => [h x|h x _]; last by have := h x; rewrite /into /from !sumvE => -[-> ->]; rewrite !eqxx.
by have := h x (all_us x); rewrite /into /from !sumvE => /andP[/eqP-> /eqP->].
Qed.

Lemma start_equivalence : equivalence start.
Proof.
split=> [u|u v|u v t]; first by apply/startE.
  by move=> /startE[i o a s]; apply/startE; split=> [h|h|z|z];
    [by rewrite i // orbC | by rewrite o // orbC | by rewrite a | by rewrite s].
move=> /startE[i1 o1 a1 s1] /startE[i2 o2 a2 s2]; apply/startE; split=> [/orP[h|h]|/orP[h|h]|z|z].
- have uv : u = v by rewrite i1 ?h.
  by rewrite uv i2 // -uv h.
- have vt : v = t by rewrite i2 ?h ?orbT.
  by rewrite -vt i1 // vt h orbT.
- have uv : u = v by rewrite o1 ?h.
  by rewrite uv o2 // -uv h.
- have vt : v = t by rewrite o2 ?h ?orbT.
  by rewrite -vt o1 // vt h orbT.
- by rewrite a1 a2.
by rewrite s1 s2.
Qed.

Lemma reached_equivalence e : reached e -> equivalence e.
Proof. by case=> [|? ? ? ?]; first exact: start_equivalence. Qed.

(* no split separates two units that an equitable partition keeps together *)
Lemma reached_coarse e : reached e -> forall e', good N w e' -> forall u v, e' u v -> e u v.
Proof.
move=> re e' [[refl sym trans] adm eq]; elim: re => [u v uv|e1 e2 r1 IH _ _ split2 u v uv].
  apply/startE; have [i o a s] := adm _ _ uv; have [i' o' _ _] := adm _ _ (sym _ _ uv).
  by split=> // /orP[] h; rewrite ?(i h) ?(o h) ?(i' h) ?(o' h).
apply: split2 (IH _ _ uv) _; apply/same_sumsP => x.
have [sy tr] : (forall y z, e1 y z -> e1 z y) /\ (forall y z t, e1 y z -> e1 z t -> e1 y t).
  by case: (reached_equivalence r1).
have cl : union_of_blocks e' (fun y => e1 y x).
  move=> y z /IH yz; apply/idP/idP => h; [exact: tr (sy _ _ yz) h | exact: tr yz h].
by have [rows columns] := eq _ cl; split; [exact: rows | exact: columns].
Qed.

(* where nothing is left to split, the partition is equitable *)
Lemma settled_good (e : rel V) : reached e -> (forall u v, e u v -> same_sums e u v) -> good N w e.
Proof.
move=> re ok; have [refl sym trans] := reached_equivalence re; split=> [//|u v uv|].
  have uv0 : start u v by elim: re u v uv {ok refl sym trans} => [//|e1 e2 _ IH _ sub _ u v /sub/IH].
  by have /startE[i o a s] := uv0; split=> // h; [apply: i | apply: o]; rewrite h.
pose c u := odflt u [pick x | e u x].
have cE u v : e u v <-> c u = c v.
  have in_c x : e x (c x) by rewrite /c; case: pickP => [y //|/(_ x)]; rewrite refl.
  split=> [uv|cuv]; last by apply: trans (in_c u) _; rewrite cuv; exact: sym.
  rewrite /c (eq_pick (Q := e v)) => [|x]; last by apply/idP/idP => h; [exact: trans (sym _ _ uv) h | exact: trans uv h].
  by case: pickP => [//|/(_ v)]; rewrite refl.
have block u x : (c u == c x) = e u x by apply/eqP/idP => /cE.
have none j (f : V -> bool) (F : V -> R) : ~ (exists x, c x = j) -> \sum_(u <- us | f u && (c u == j)) F u = 0.
  by move=> no; rewrite big_pred0 // => u; apply/negP => /andP[_ /eqP cu]; apply: no; exists u.
have [re' ce] : RE N c w /\ CE N c w.
  split=> [j v v' /cE/ok/same_sumsP h|j u u' /cE/ok/same_sumsP h].
    case: (pickP (fun x => c x == j)) => [x /eqP<-|no].
      by under eq_bigl do rewrite block; under [RHS]eq_bigl do rewrite block; case: (h x).
    by rewrite !none // => -[x cx]; have := no x; rewrite cx eqxx.
  case: (pickP (fun x => c x == j)) => [x /eqP<-|no].
    by under eq_bigl do rewrite block; under [RHS]eq_bigl do rewrite block; case: (h x).
  by rewrite !none // => -[x cx]; have := no x; rewrite cx eqxx.
have /C11_blocks eq : RE N c w /\ CE N c w by [].
move=> A clA; have [rows columns] := eq A (fun u v cuv => clA u v ((cE u v).2 cuv)).
by split=> [v v' /cE/rows|u u' /cE/columns].
Qed.

Theorem C11_any_order (e : rel V) : reached e -> (forall u v, e u v -> same_sums e u v) ->
  good N w e /\ forall e', good N w e' -> forall u v, e' u v -> e u v.
Proof. by move=> re ok; split; [exact: settled_good | exact: reached_coarse]. Qed.

Lemma rounds_reached k : reached (rounds k).
Proof.
elim: k => [|k IH]; first exact: Start.
have [refl sym trans] := reached_equivalence IH.
apply: (Split IH) => [|u v /andP[]//|u v uv same]; last by rewrite /rounds iterS /refine -/(rounds k) uv.
split=> [u|u v|u v t] /=; rewrite /refine.
- by rewrite refl; apply/same_sumsP.
- by move=> /andP[/sym-> /same_sumsP h]; apply/same_sumsP => x; have [] := h x.
move=> /andP[uv /same_sumsP h] /andP[vt /same_sumsP h']; rewrite (trans _ _ _ uv vt); apply/same_sumsP => x.
by have [-> ->] := h x; exact: h'.
Qed.

Let pairs k := [set p : V * V | rounds k p.1 p.2].
Lemma refine_ext (e e' : rel V) : e =2 e' -> refine e =2 refine e'.
Proof.
move=> E u v; rewrite /refine E; congr (_ && _); apply: eq_all => x; rewrite !sumvE.
by do 4?[congr (_ && _) | congr (_ == _) | apply: eq_bigl => y; rewrite E].
Qed.

(* after so many rounds at the latest *)
Theorem C11_refinement (e := rounds (#|V| * #|V|)) :
  good N w e /\ forall e', good N w e' -> forall u v, e' u v -> e u v.
Proof.
apply: C11_any_order; first exact: rounds_reached.
have shrink k : pairs k.+1 \subset pairs k by apply/subsetP => p; rewrite !inE => /andP[].
have stuck k : pairs k.+1 = pairs k \/ (#|pairs k| + k <= #|V| * #|V|)%N.
  elim: k => [|k [stop|IH]]; first by right; rewrite addn0 -card_prod max_card.
    left; apply/setP => p; rewrite !inE; apply: refine_ext => u v.
    by have /setP/(_ (u, v)) := stop; rewrite !inE.
  have [stop|go] := eqVneq (pairs k.+1) (pairs k); last first.
    right; rewrite addnS; apply: leq_trans IH; rewrite ltn_add2r proper_card // properEneq go; exact: shrink.
  left; apply/setP => p; rewrite !inE; apply: refine_ext => u v.
  by have /setP/(_ (u, v)) := stop; rewrite !inE.
have same : pairs (#|V| * #|V|).+1 = pairs (#|V| * #|V|).
  case: (stuck (#|V| * #|V|)%N) => // le; apply/eqP; rewrite eqEsubset shrink; apply/subsetP => p.
  have -> : pairs (#|V| * #|V|) = set0 by apply/eqP; rewrite -cards_eq0; move: le; rewrite -[X in (_ <= X)%N]add0n leq_add2r leqn0.
  by rewrite inE.
move=> u v uv; have /setP/(_ (u, v)) := same; rewrite !inE /= -/e uv => /andP[_].
exact.
Qed.
End Refinement.
